import type { EndReason } from '../endings.js'
import type { SlotStore } from '../store/slot-store.js'
import { validateGrant, validateLeaseStates } from '../store/validate-store-result.js'
import type { HeldLeases } from './held-leases.js'
import { inBatches } from './in-batches.js'
import { isMissing, mayBeHeld, type SlotLease } from './slot-lease.js'

/** Three tries within a lease, so that a renewal may be late or fail once without a slot being lost. */
const RENEWALS_PER_LEASE = 3

export interface LeaseRenewalEvents {
  /** Whether a key has failed by itself. It is not renewed with the others, and has `runKey`. */
  isFailing(key: string): boolean
  /** The slot of a lease is gone for good. */
  onEnd(lease: SlotLease, reason: EndReason): void
  /** The store has failed for one key. */
  onKeyFailure(key: string, error: unknown): void
  /** A command for many keys has failed: whether the whole store is down, or only some of them failed. */
  isStoreDown(error: unknown): Promise<boolean>
}

/**
 * Keeps the leases of one limiter alive: one timer for all of them, which runs only while there are some.
 *
 * A lease that the store no longer knows is taken again, and by which rule depends on whose fault it was. If our own
 * renewal came later than a lease lives (the process was suspended, or its event loop blocked), the store was right to
 * give the place away: it is taken again if there is room, else the stream ends. If the renewal was in time, the store
 * has lost its data: the lease is put back even over the limit, as no open stream is cut for that.
 */
export class LeaseRenewal {
  readonly #store: SlotStore
  readonly #held: HeldLeases
  readonly #events: LeaseRenewalEvents
  readonly #leaseMs: number
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #overdueRun: Promise<void> | undefined
  /** When this process was last seen to run. Not when it was last answered: that Redis is slow is no fault of its own. */
  #tickedAt = 0
  #overdueSince = Number.NEGATIVE_INFINITY

  /** @param held the leases, oldest first. */
  constructor(store: SlotStore, held: HeldLeases, events: LeaseRenewalEvents) {
    this.#store = store
    this.#held = held
    this.#events = events
    this.#leaseMs = store.leaseMs ?? Infinity
  }

  /** Renews from now on. Does nothing if it does so already, or if the slots of this store do not expire. */
  start(): void {
    if (this.#timer || this.#leaseMs === Infinity) return
    this.#tickedAt = performance.now()
    this.#timer = setInterval(() => {
      const overdueRun = this.renewIfOverdue()
      this.#tickedAt = performance.now()
      if (!overdueRun) this.runNow()
    }, this.#leaseMs / RENEWALS_PER_LEASE)
  }

  stop(): void {
    this.#markIfRenewedLate()
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /**
   * Renews out of turn if that is overdue, so that a stream which opens right after the process was suspended does not
   * take the place of an older one.
   *
   * @returns a promise of its end, or undefined if nothing is overdue.
   */
  renewIfOverdue(): Promise<void> | undefined {
    if (this.#markIfRenewedLate()) {
      // A renewal that was on its way before cannot know what happened meanwhile.
      this.#overdueRun = Promise.resolve(this.#running)
        .then(() => this.runNow())
        .finally(() => {
          this.#overdueRun = undefined
        })
    }
    return this.#overdueRun
  }

  /** Renews now, on top of the regular renewals. Never rejects. */
  runNow(): Promise<void> {
    this.#running ??= this.run()
      .catch((error) => this.#events.isStoreDown(error))
      .then(() => {})
      .finally(() => {
        this.#running = undefined
      })
    return this.#running
  }

  /**
   * Renews what the store has, and puts back what it has not. A key that fails alone goes to `onKeyFailure`; rejects if all
   * fail that were asked for.
   */
  async run(): Promise<void> {
    const byKey = [...this.#held.byKey()].filter(([key]) => !this.#events.isFailing(key))
    const failures: unknown[] = []
    const fail = (key: string, error: unknown) => {
      failures.push(error)
      this.#events.onKeyFailure(key, error)
    }
    try {
      await this.#renew(byKey.flatMap(([, leases]) => leases).filter(mayBeHeld))
    } catch (error) {
      if (await this.#events.isStoreDown(error)) throw error
      // Which key it was is not known, so each is asked for by itself.
      await inBatches(byKey, async ([key, leases]) => {
        await this.#renew(leases.filter(mayBeHeld)).catch((failure) => fail(key, failure))
      })
    }
    await inBatches(byKey, async ([key, leases]) => {
      if (this.#events.isFailing(key)) return
      await this.#reacquire(leases).catch((failure) => fail(key, failure))
    })
    if (failures.length > 0 && failures.length === byKey.length) throw failures[0]
  }

  /** As {@link run}, for a key that has failed. Rejects if it still fails. */
  async runKey(key: string): Promise<void> {
    const leases = this.#held.ofKey(key)
    await this.#renew(leases.filter(mayBeHeld))
    await this.#reacquire(leases)
  }

  #markIfRenewedLate(): boolean {
    const now = performance.now()
    if (!this.#timer || now - this.#tickedAt <= this.#leaseMs) return false
    this.#tickedAt = now
    this.#overdueSince = now
    for (const lease of this.#held.values()) lease.isRenewedLate = true
    return true
  }

  async #renew(leases: readonly SlotLease[]): Promise<void> {
    if (leases.length === 0 || !this.#store.renew) return
    const askedAt = performance.now()
    // Of each lease only what the contract says: a store may copy or send it, and ours holds on to the response.
    const asked = leases.map(({ key, slotId }) => ({ key, slotId }))
    const states = validateLeaseStates(await this.#store.renew(asked), leases.length)
    for (const [index, lease] of leases.entries()) {
      const state = states[index]
      // Its stream may have closed meanwhile, or a notice may have ended it.
      if (lease.remote === 'revoked' || !this.#held.get(lease.slotId)) continue
      if (state === 'renewed') {
        lease.remote = 'held'
        if (askedAt >= this.#overdueSince) lease.isRenewedLate = false
      } else if (state === 'evicted' || state === 'kicked') {
        this.#events.onEnd(lease, state)
      } else {
        lease.remote = 'missing'
      }
    }
  }

  /** The leases of one key one after the other, the oldest first, so that it is the newest which find no room. */
  async #reacquire(leases: readonly SlotLease[]): Promise<void> {
    for (const lease of leases) await this.#reacquireOne(lease)
  }

  async #reacquireOne(lease: SlotLease): Promise<void> {
    const { key, slotId, limit } = lease
    if (!this.#held.get(slotId) || !isMissing(lease)) return
    lease.remote = 'unknown'
    const { granted } = validateGrant(
      await this.#store.acquire(key, slotId, lease.isRenewedLate ? limit : Infinity),
    )
    // Its stream closed meanwhile, and the release may have overtaken the acquire.
    if (!this.#held.get(slotId)) return this.#store.release(key, slotId)
    lease.isRenewedLate = false
    if (granted) lease.remote = 'held'
    else this.#events.onEnd(lease, 'evicted')
  }
}
