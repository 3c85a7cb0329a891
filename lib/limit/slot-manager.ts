import { isPromise } from '../checks.js'
import type { EndReason } from '../endings.js'
import { badOption, streamError } from '../errors.js'
import type { Grant, SlotStore } from '../store/slot-store.js'
import { validateGrant } from '../store/validate-store-result.js'
import { CloseWaiters, type WaitingRequest } from './close-waiters.js'
import { type ClosedSlot, DeferredReleases } from './deferred-releases.js'
import { HeldLeases } from './held-leases.js'
import { LeaseRenewal } from './lease-renewal.js'
import { isMissing, mayBeHeld, type SlotLease } from './slot-lease.js'
import { StoreAvailability } from './store-availability.js'

/** What happens to new streams while the store is away. See `StreamLimitOptions.whenStoreDown`. */
export type WhenStoreDown = 'local' | 'allow' | 'refuse'

const CONSEQUENCES: Readonly<Record<WhenStoreDown, string>> = {
  local: 'Until it is back, this process counts for itself, against the same limit.',
  allow: 'Until it is back, this process lets every stream through.',
  refuse: 'Until it is back, this process refuses new streams with 503.',
}

/** Of how many keys that have a slot some are probed. */
const MAX_PROBED = 100

/**
 * Holds the slots of one limiter: takes them from the store, keeps them there while their streams are open, and gives
 * each back once. While the store, or a key of it, is down, this process stands in for it.
 */
export class SlotManager {
  readonly #store: SlotStore
  readonly #whenStoreDown: WhenStoreDown
  readonly #held = new HeldLeases()
  readonly #closeWaiters = new CloseWaiters()
  readonly #deferred: DeferredReleases
  readonly #renewal: LeaseRenewal
  readonly #availability: StoreAvailability
  /** Whether the store is being brought up to date. */
  #isRecovering = false

  constructor(store: SlotStore, whenStoreDown: WhenStoreDown, identifier: string) {
    this.#store = store
    this.#whenStoreDown = whenStoreDown
    this.#deferred = new DeferredReleases(store)
    const recovery = {
      recover: () => this.#recover(),
      recoverKey: (key: string) => this.#recoverKey(key),
      onOpen: () => this.#renewal.stop(),
      heldKeys: () => this.#held.someKeys(MAX_PROBED),
    }
    const consequence = `${CONSEQUENCES[whenStoreDown]} (policy "${identifier}")`
    this.#availability = new StoreAvailability(store, recovery, consequence)
    this.#renewal = new LeaseRenewal(store, this.#held, {
      isFailing: (key) => this.#availability.isKeyFailing(key),
      onEnd: (lease, reason) => this.#end(lease, reason),
      onKeyFailure: (key, error) => void this.#availability.failKey(key, error),
      isStoreDown: async (error) => !this.#isRecovering && this.#availability.judge(error),
    })
    this.#watch()
  }

  /**
   * Takes the slot of a lease; at once if the store answers at once and there is one to take. A refusal waits a little for
   * one of the key's streams in this process to close, see {@link CloseWaiters}.
   *
   * @param request who waits for the slot.
   * @throws ERR_STREAM_STORE when the store is down and `whenStoreDown` is 'refuse'.
   */
  acquire(lease: SlotLease, request: WaitingRequest): Grant | Promise<Grant> {
    const held = this.countLocally(lease.key)
    const overdue = this.#availability.isKeyDown(lease.key) ? undefined : this.#renewal.renewIfOverdue()
    const answer = overdue ? overdue.then(() => this.#acquireNow(lease)) : this.#acquireNow(lease)
    const settle = (grant: Grant) =>
      grant.granted || held === 0 ? grant : this.#retryAfterClose(lease, grant, held, request)
    return isPromise(answer) ? answer.then(settle) : settle(answer)
  }

  /** How many slots a key holds in this process. */
  countLocally(key: string): number {
    return this.#held.count(key)
  }

  /** Gives a slot back. Once: a second call does nothing. Never throws. */
  release(lease: SlotLease): void {
    if (!this.#held.delete(lease)) return
    if (this.#held.size === 0) this.#renewal.stop()
    this.#closeWaiters.notifyClosed(lease.key)
    if (mayBeHeld(lease)) this.#releaseInStore(lease)
  }

  /** Whether the whole store is down. A key that fails alone is not counted. */
  get isStoreDown(): boolean {
    return this.#availability.isDown
  }

  /** How many slots a key holds in the store; while the store or the key is down, in this process. */
  async count(key: unknown): Promise<number> {
    // Nobody: what keyGenerator may return, and no store should be asked for.
    if (key === undefined || key === null || key === '') return 0
    if (typeof key !== 'string')
      throw badOption('limit.count: the key', key, 'the string that keyGenerator returns')
    if (!this.#availability.isKeyDown(key)) {
      try {
        return await this.#store.count(key)
      } catch (error) {
        await this.#availability.failKey(key, error)
      }
    }
    return this.#held.count(key)
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
    request: WaitingRequest,
  ): Promise<Grant> {
    const { key } = lease
    const deadline = this.#closeWaiters.deadline()
    let grant = refusal
    let before = held
    let isLastTry = false
    while (!grant.granted && before > 0 && !isLastTry) {
      const hasClosed =
        this.countLocally(key) < before || (await this.#closeWaiters.waitForClose(key, deadline, request))
      if (request.isCancelled) {
        // The close was for one who still waits.
        if (hasClosed) this.#closeWaiters.notifyClosed(key)
        break
      }
      isLastTry = !hasClosed
      if (isLastTry && this.countLocally(key) >= before) break
      before = this.countLocally(key)
      grant = await this.#acquireNow(lease)
    }
    return grant
  }

  #acquireNow(lease: SlotLease): Grant | Promise<Grant> {
    const { key, slotId, limit } = lease
    if (this.#availability.isKeyDown(key)) return this.#acquireLocally(lease)
    const held = this.#held.count(key)
    // What this process holds alone is enough to refuse. So a user in a reconnect loop costs the store nothing, and
    // a store that has lost its data lets nobody past the limit of one process.
    if (held >= limit) return { granted: false, held }
    const askedAt = performance.now()
    try {
      const answer = this.#store.acquire(key, slotId, limit)
      if (!isPromise(answer)) return this.#commitGrant(lease, validateGrant(answer), askedAt)
      return Promise.resolve(answer)
        .then(validateGrant)
        .then(
          (grant) => this.#commitGrant(lease, grant, askedAt),
          (error) => this.#acquireAfterStoreError(lease, error),
        )
    } catch (error) {
      return this.#acquireAfterStoreError(lease, error)
    }
  }

  /** The store has answered. */
  #commitGrant(lease: SlotLease, grant: Grant, askedAt: number): Grant {
    if (!grant.granted) return grant
    lease.remote = 'held'
    const { granted, held } = this.#register(lease, lease.limit)
    if (!granted) {
      // Others were let in meanwhile by a store that knew less than this process.
      this.#releaseInStore(lease)
      return { granted, held }
    }
    // The process was suspended while the answer lay in the socket: the slot may be somebody else's by now.
    lease.isRenewedLate = performance.now() - askedAt > (this.#store.leaseMs ?? Infinity)
    // With fewer slots than are held in this process alone, it has lost some.
    if ((lease.isRenewedLate || grant.held < held) && !this.#availability.isDown) this.#renewal.runNow()
    return grant
  }

  /** The store has failed, and whether it has taken the slot is unknown. */
  #acquireAfterStoreError(lease: SlotLease, error: unknown): Grant {
    this.#availability.failKey(lease.key, error)
    lease.remote = 'unknown'
    this.#deferred.add(lease)
    const grant = this.#acquireLocally(lease, error)
    if (grant.granted) this.#deferred.delete(lease)
    return grant
  }

  #acquireLocally(lease: SlotLease, cause?: unknown): Grant {
    if (this.#whenStoreDown === 'refuse') {
      throw streamError(
        'ERR_STREAM_STORE',
        'Open streams cannot be counted right now. Try again later.',
        cause === undefined ? {} : { cause },
      )
    }
    return this.#register(lease, this.#whenStoreDown === 'allow' ? Infinity : lease.limit)
  }

  #register(lease: SlotLease, limit: number): Grant {
    const grant = this.#held.add(lease, limit)
    if (grant.granted && !this.#availability.isDown) this.#renewal.start()
    return grant
  }

  /** Never rejects. */
  async #releaseInStore(slot: ClosedSlot): Promise<void> {
    if (this.#availability.isKeyDown(slot.key)) return this.#deferred.add(slot)
    try {
      await this.#store.release(slot.key, slot.slotId)
    } catch (error) {
      this.#deferred.add(slot)
      this.#availability.failKey(slot.key, error)
    }
  }

  /** Its slot is gone, and free for another stream, while its own may still be closing. */
  #end(lease: SlotLease, reason: EndReason): void {
    // The store may tell twice: in this process at once, and by a notice that goes to all.
    if (lease.remote === 'revoked') return
    lease.remote = 'revoked'
    this.#held.freeSlot(lease)
    this.#closeWaiters.notifyClosed(lease.key)
    lease.end(reason)
  }

  /** Brings a store that was down up to date. Streams that open meanwhile are still counted here, and put there last. */
  async #recover(): Promise<void> {
    this.#isRecovering = true
    try {
      this.#deferred.dropExpired()
      // First, as leases expire. A key that fails keeps nothing back.
      await this.#renewal.run()
      await this.#deferred.release(this.#deferredKeys(), (key, error) => {
        this.#availability.failKey(key, error)
      })
    } finally {
      this.#isRecovering = false
    }
    // From here on all is as usual. In one tick, so that nothing happens here between the last look and the end. Not
    // only once nothing at all is left to do: where streams come and go all the time, that might never be.
    this.#availability.close()
    this.#releaseDeferred(this.#deferredKeys())
    if (this.#held.size > 0) this.#renewal.start()
    if ([...this.#held.values()].some(isMissing)) this.#renewal.runNow()
  }

  async #recoverKey(key: string): Promise<void> {
    this.#deferred.dropExpired()
    await this.#renewal.runKey(key)
    let failure: { error: unknown } | undefined
    await this.#deferred.release([key], (_, error) => {
      failure = { error }
    })
    if (failure) throw failure.error
    this.#availability.closeKey(key)
    this.#releaseDeferred([key])
    if (this.#held.ofKey(key).some(isMissing)) this.#renewal.runNow()
  }

  /** The keys whose releases were deferred, but for those that fail by themselves. */
  #deferredKeys(): string[] {
    return this.#deferred.keys().filter((key) => !this.#availability.isKeyFailing(key))
  }

  /** Releases what has closed while the store was brought up to date. */
  #releaseDeferred(keys: readonly string[]): void {
    for (const slot of this.#deferred.take(keys)) this.#releaseInStore(slot)
  }
}
