import { streamError } from '../errors.js'
import { isPromise } from '../is-promise.js'
import type { StreamEnd } from '../stream-end.js'
import { inBatches } from './in-batches.js'
import { LeaseRenewal } from './lease-renewal.js'
import { MemoryStore } from './memory-store.js'
import { isMissing, mayBeStored, type SlotLease } from './slot-lease.js'
import type { Grant, SlotStore } from './slot-store.js'
import { checkGrant } from './store-answers.js'
import { StoreOutage } from './store-outage.js'

/** What happens to new streams while the store is away. See `StreamLimitOptions.whenStoreDown`. */
export type WhenStoreDown = 'local' | 'allow' | 'refuse'

const CONSEQUENCES: Readonly<Record<WhenStoreDown, string>> = {
  local: 'Until it is back, this process counts for itself, against the same limit.',
  allow: 'Until it is back, this process lets every stream through.',
  refuse: 'Until it is back, this process refuses new streams with 503.',
}

/** A slot that is to be released when the store is back. Not its lease, which would hold on to the response. */
type Unreleased = Pick<SlotLease, 'key' | 'slotId' | 'stored'> & { goneAt: number }

/** How many of them are kept, at some 200 bytes. Whatever is forgotten is free again a lease after it was taken. */
const MOST_UNRELEASED = 10_000

/**
 * Holds the slots of one limiter: takes them from the store, keeps them there while their streams are open, and gives
 * each back once. While the store is away it stands in for it.
 */
export class SlotKeeper {
  readonly #store: SlotStore
  readonly #whenStoreDown: WhenStoreDown
  /** All leases of open streams, oldest first. */
  readonly #held = new Map<string, SlotLease>()
  /** The slots among them, by key, as a store of this process alone would count them. */
  readonly #here = new MemoryStore()
  /** Slots that the store may still have although their streams have closed while it was away. */
  readonly #unreleased = new Map<string, Unreleased>()
  readonly #renewal: LeaseRenewal
  readonly #outage: StoreOutage

  constructor(store: SlotStore, whenStoreDown: WhenStoreDown, identifier: string) {
    this.#store = store
    this.#whenStoreDown = whenStoreDown
    this.#renewal = new LeaseRenewal(store, this.#held, {
      onEnd: (lease, reason) => this.#end(lease, reason),
      onFailure: (error) => this.#fail(error),
    })
    this.#outage = new StoreOutage(
      () => this.#recover(),
      store.leaseMs ?? Infinity,
      `${CONSEQUENCES[whenStoreDown]} (policy "${identifier}")`,
    )
    this.#watch()
  }

  /**
   * Takes the slot of a lease; at once if the store answers at once.
   *
   * @throws ERR_STREAM_STORE when the store is away and `whenStoreDown` is 'refuse'.
   */
  acquire(lease: SlotLease): Grant | Promise<Grant> {
    const overdue = this.#outage.isDown ? undefined : this.#renewal.catchUp()
    return overdue ? overdue.then(() => this.#acquireNow(lease)) : this.#acquireNow(lease)
  }

  /** Gives a slot back. Once: a second call does nothing. Never throws. */
  release(lease: SlotLease): void {
    const { key, slotId } = lease
    if (!this.#held.delete(slotId)) return
    if (this.#held.size === 0) this.#renewal.stop()
    this.#here.release(key, slotId)
    if (mayBeStored(lease)) this.#releaseInStore(lease)
  }

  /** Whether the store is away. */
  get isStoreDown(): boolean {
    return this.#outage.isDown
  }

  /** How many slots a key holds in the store; while it is away, in this process. */
  async count(key: string): Promise<number> {
    if (!this.#outage.isDown) {
      try {
        return await this.#store.count(key)
      } catch (error) {
        this.#fail(error)
      }
    }
    return this.#here.count(key)
  }

  #watch(): void {
    const watching: unknown = this.#store.watch?.((slotIds, reason) => {
      for (const slotId of slotIds) {
        const lease = this.#held.get(slotId)
        if (lease) this.#end(lease, reason)
      }
    })
    // Without notices the renewals tell.
    if (isPromise(watching)) watching.then(undefined, () => {})
  }

  #acquireNow(lease: SlotLease): Grant | Promise<Grant> {
    const { key, slotId, limit } = lease
    if (this.#outage.isDown) return this.#acquireHere(lease)
    const held = this.#here.count(key)
    // What this process holds alone is enough to refuse. So a user in a reconnect loop costs the store nothing, and
    // a store that has lost its data lets nobody past the limit of one process.
    if (held >= limit) return { granted: false, held }
    const askedAt = performance.now()
    try {
      const answer = this.#store.acquire(key, slotId, limit)
      if (!isPromise(answer)) return this.#take(lease, checkGrant(answer), askedAt)
      return Promise.resolve(answer)
        .then(checkGrant)
        .then(
          (grant) => this.#take(lease, grant, askedAt),
          (error) => this.#acquireInstead(lease, error),
        )
    } catch (error) {
      return this.#acquireInstead(lease, error)
    }
  }

  /** The store has answered. */
  #take(lease: SlotLease, grant: Grant, askedAt: number): Grant {
    if (!grant.granted) return grant
    lease.stored = 'yes'
    const { granted, held } = this.#hold(lease, lease.limit)
    if (!granted) {
      // Others were let in meanwhile by a store that knew less than this process.
      this.#releaseInStore(lease)
      return { granted, held }
    }
    // The process was suspended while the answer lay in the socket: the slot may be somebody else's by now.
    lease.isOverdue = performance.now() - askedAt > (this.#store.leaseMs ?? Infinity)
    // With fewer slots than are held in this process alone, it has lost some.
    if ((lease.isOverdue || grant.held < held) && !this.#outage.isDown) this.#renewal.runNow()
    return grant
  }

  /** The store has failed, and whether it has taken the slot is unknown. */
  #acquireInstead(lease: SlotLease, error: unknown): Grant {
    this.#fail(error)
    lease.stored = 'maybe'
    let isGranted = false
    try {
      const grant = this.#acquireHere(lease, error)
      isGranted = grant.granted
      return grant
    } finally {
      if (!isGranted) this.#releaseInStore(lease)
    }
  }

  #acquireHere(lease: SlotLease, cause?: unknown): Grant {
    if (this.#whenStoreDown === 'refuse') {
      throw streamError(
        'ERR_STREAM_STORE',
        'Open streams cannot be counted right now. Try again later.',
        cause === undefined ? {} : { cause },
      )
    }
    return this.#hold(lease, this.#whenStoreDown === 'allow' ? Infinity : lease.limit)
  }

  #hold(lease: SlotLease, limit: number): Grant {
    const grant = this.#here.acquire(lease.key, lease.slotId, limit)
    if (grant.granted) {
      this.#held.set(lease.slotId, lease)
      if (!this.#outage.isDown) this.#renewal.start()
    }
    return grant
  }

  #releaseInStore({ key, slotId, stored }: Pick<SlotLease, 'key' | 'slotId' | 'stored'>): void {
    const later = () => {
      const goneAt = stored === 'yes' ? performance.now() + (this.#store.leaseMs ?? Infinity) : Infinity
      this.#unreleased.set(slotId, { key, slotId, stored, goneAt })
    }
    if (this.#outage.isDown) return later()
    const onFailure = (error: unknown) => {
      this.#fail(error)
      later()
    }
    try {
      const done = this.#store.release(key, slotId)
      if (isPromise(done)) done.then(undefined, onFailure)
    } catch (error) {
      onFailure(error)
    }
  }

  /** Its slot is gone, and free for another stream, while its own may still be closing. */
  #end(lease: SlotLease, reason: StreamEnd): void {
    lease.stored = 'ended'
    this.#here.release(lease.key, lease.slotId)
    lease.end(reason)
  }

  #fail(error: unknown): void {
    this.#outage.begin(error)
    this.#renewal.stop()
  }

  /** Brings a store that was away up to date. Streams that open meanwhile are still counted here, and put there last. */
  async #recover(): Promise<void> {
    this.#forgetGone()
    await this.#store.count(this.#probeKey())
    await this.#releaseLate()
    await this.#renewal.run()
    // From here on all is as usual. In one tick, so that nothing happens here between the last look and the end. Not
    // only once nothing at all is left to do: where streams come and go all the time, that might never be.
    this.#outage.end()
    const late = [...this.#unreleased.values()]
    this.#unreleased.clear()
    for (const slot of late) this.#releaseInStore(slot)
    if (this.#held.size > 0) this.#renewal.start()
    if ([...this.#held.values()].some(isMissing)) this.#renewal.runNow()
  }

  /** Any key will do, but not always the one that failed: in a cluster it may be on the only node that is away. */
  #probeKey(): string {
    const leases = [...this.#held.values()]
    return leases[Math.floor(Math.random() * leases.length)]?.key ?? `probe-${Math.random()}`
  }

  /**
   * Forgets slots that the store has forgotten by itself. Not those that it may never have had: the client may still
   * have their acquire in a queue. But of these there may be no end, so at last the oldest go too.
   */
  #forgetGone(): void {
    const now = performance.now()
    for (const [slotId, { goneAt }] of this.#unreleased) {
      if (goneAt < now || this.#unreleased.size > MOST_UNRELEASED) this.#unreleased.delete(slotId)
    }
  }

  async #releaseLate(): Promise<void> {
    await inBatches([...this.#unreleased.values()], async ({ key, slotId }) => {
      await this.#store.release(key, slotId)
      this.#unreleased.delete(slotId)
    })
  }
}
