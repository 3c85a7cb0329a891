import { badOption, streamError } from '../errors.js'
import { isPromise } from '../is-promise.js'
import type { StreamEnd } from '../stream-end.js'
import { CloseWaiters } from './close-waiters.js'
import { type ClosedSlot, LateReleases } from './late-releases.js'
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
  readonly #closeWaiters = new CloseWaiters()
  readonly #late: LateReleases
  readonly #renewal: LeaseRenewal
  readonly #outage: StoreOutage

  constructor(store: SlotStore, whenStoreDown: WhenStoreDown, identifier: string) {
    this.#store = store
    this.#whenStoreDown = whenStoreDown
    this.#late = new LateReleases(store)
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
   * Takes the slot of a lease; at once if the store answers at once and there is one to take. A refusal waits a little for
   * one of the key's streams in this process to close, see {@link CloseWaiters}.
   *
   * @param isCancelled whether nobody waits for the slot any more.
   * @throws ERR_STREAM_STORE when the store is down and `whenStoreDown` is 'refuse'.
   */
  acquire(lease: SlotLease, isCancelled: () => boolean): Grant | Promise<Grant> {
    const held = this.countHere(lease.key)
    const overdue = this.#outage.isDown ? undefined : this.#renewal.catchUp()
    const answer = overdue ? overdue.then(() => this.#acquireNow(lease)) : this.#acquireNow(lease)
    const settle = (grant: Grant) =>
      grant.granted || held === 0 ? grant : this.#retryAfterClose(lease, grant, held, isCancelled)
    return isPromise(answer) ? answer.then(settle) : settle(answer)
  }

  /** How many slots a key holds in this process. */
  countHere(key: string): number {
    return this.#here.count(key)
  }

  /** Gives a slot back. Once: a second call does nothing. Never throws. */
  release(lease: SlotLease): void {
    if (!this.#held.delete(lease.slotId)) return
    if (this.#held.size === 0) this.#renewal.stop()
    this.#releaseHere(lease)
    if (mayBeStored(lease)) this.#releaseInStore(lease)
  }

  /** Whether the store is away. */
  get isStoreDown(): boolean {
    return this.#outage.isDown
  }

  /** How many slots a key holds in the store; while it is away, in this process. */
  async count(key: unknown): Promise<number> {
    // Nobody: what keyGenerator may return, and no store should be asked for.
    if (key === undefined || key === null || key === '') return 0
    if (typeof key !== 'string')
      throw badOption('limit.count: the key', key, 'the string that keyGenerator returns')
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
    const watching = this.#store.watch?.((slotIds, reason) => {
      for (const slotId of slotIds) {
        const lease = this.#held.get(slotId)
        if (lease) this.#end(lease, reason)
      }
    })
    // Without notices the renewals tell.
    if (isPromise(watching)) watching.then(undefined, () => {})
  }

  /** @param held how many slots the key held here when this one was asked for: one may have closed before the answer. */
  async #retryAfterClose(
    lease: SlotLease,
    refusal: Grant,
    held: number,
    isCancelled: () => boolean,
  ): Promise<Grant> {
    const { key } = lease
    const deadline = this.#closeWaiters.deadline()
    let grant = refusal
    let before = held
    while (!grant.granted && before > 0 && !isCancelled()) {
      if (this.countHere(key) >= before && !(await this.#closeWaiters.waitForClose(key, deadline))) break
      if (isCancelled()) break
      before = this.countHere(key)
      grant = await this.#acquireNow(lease)
    }
    return grant
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
    this.#late.add(lease)
    const grant = this.#acquireHere(lease, error)
    if (grant.granted) this.#late.delete(lease.slotId)
    return grant
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

  /** Never rejects. */
  async #releaseInStore(slot: ClosedSlot): Promise<void> {
    if (this.#outage.isDown) return this.#late.add(slot)
    try {
      await this.#store.release(slot.key, slot.slotId)
    } catch (error) {
      this.#fail(error)
      this.#late.add(slot)
    }
  }

  /** Its slot is gone, and free for another stream, while its own may still be closing. */
  #end(lease: SlotLease, reason: StreamEnd): void {
    lease.stored = 'ended'
    this.#releaseHere(lease)
    lease.end(reason)
  }

  #releaseHere({ key, slotId }: SlotLease): void {
    this.#here.release(key, slotId)
    this.#closeWaiters.notifyClosed(key)
  }

  #fail(error: unknown): void {
    this.#outage.begin(error)
    this.#renewal.stop()
  }

  /** Brings a store that was away up to date. Streams that open meanwhile are still counted here, and put there last. */
  async #recover(): Promise<void> {
    this.#late.forgetGone()
    await this.#store.count(this.#probeKey())
    await this.#late.release()
    await this.#renewal.run()
    // From here on all is as usual. In one tick, so that nothing happens here between the last look and the end. Not
    // only once nothing at all is left to do: where streams come and go all the time, that might never be.
    this.#outage.end()
    for (const slot of this.#late.take()) this.#releaseInStore(slot)
    if (this.#held.size > 0) this.#renewal.start()
    if ([...this.#held.values()].some(isMissing)) this.#renewal.runNow()
  }

  /** Any key will do, but not always the one that failed: in a cluster it may be on the only node that is away. */
  #probeKey(): string {
    const leases = [...this.#held.values()]
    return leases[Math.floor(Math.random() * leases.length)]?.key ?? `probe-${Math.random()}`
  }
}
