import type { StreamEnd } from '../stream-end.js'
import { inBatches } from './in-batches.js'
import { isMissing, mayBeStored, type SlotLease } from './slot-lease.js'
import type { SlotStore } from './slot-store.js'
import { checkGrant, checkLeaseStates } from './store-answers.js'

/** Three tries within a lease, so that a renewal may be late or fail once without a slot being lost. */
const RENEWALS_PER_LEASE = 3

export interface LeaseRenewalEvents {
  /** The slot of a lease is gone for good. */
  onEnd(lease: SlotLease, reason: StreamEnd): void
  /** The store has failed. */
  onFailure(error: unknown): void
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
  readonly #held: ReadonlyMap<string, SlotLease>
  readonly #events: LeaseRenewalEvents
  readonly #leaseMs: number
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #catchingUp: Promise<void> | undefined
  /** When this process was last seen to run. Not when it was last answered: that Redis is slow is no fault of its own. */
  #tickedAt = 0
  #overdueSince = Number.NEGATIVE_INFINITY

  /** @param held the leases, oldest first. */
  constructor(store: SlotStore, held: ReadonlyMap<string, SlotLease>, events: LeaseRenewalEvents) {
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
      const catchingUp = this.catchUp()
      this.#tickedAt = performance.now()
      if (!catchingUp) this.runNow()
    }, this.#leaseMs / RENEWALS_PER_LEASE)
  }

  stop(): void {
    this.#markIfOverdue()
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /**
   * Renews out of turn if that is overdue, so that a stream which opens right after the process was suspended does not
   * take the place of an older one.
   *
   * @returns a promise of its end, or undefined if nothing is overdue.
   */
  catchUp(): Promise<void> | undefined {
    if (this.#markIfOverdue()) {
      // A renewal that was on its way before cannot know what happened meanwhile.
      this.#catchingUp = Promise.resolve(this.#running)
        .then(() => this.runNow())
        .finally(() => {
          this.#catchingUp = undefined
        })
    }
    return this.#catchingUp
  }

  /** Renews now, on top of the regular renewals. A failure goes to `onFailure`. */
  runNow(): Promise<void> {
    this.#running ??= this.run()
      .catch((error) => this.#events.onFailure(error))
      .finally(() => {
        this.#running = undefined
      })
    return this.#running
  }

  /** Renews what the store has, and puts back what it has not. Rejects if the store fails. */
  async run(): Promise<void> {
    await this.#renew([...this.#held.values()].filter(mayBeStored))
    await this.#takeAgain([...this.#held.values()].filter(isMissing))
  }

  #markIfOverdue(): boolean {
    const now = performance.now()
    if (!this.#timer || now - this.#tickedAt <= this.#leaseMs) return false
    this.#tickedAt = now
    this.#overdueSince = now
    for (const lease of this.#held.values()) lease.isOverdue = true
    return true
  }

  async #renew(leases: readonly SlotLease[]): Promise<void> {
    if (leases.length === 0 || !this.#store.renew) return
    const askedAt = performance.now()
    // Of each lease only what the contract says: a store may copy or send it, and ours holds on to the response.
    const asked = leases.map(({ key, slotId }) => ({ key, slotId }))
    const states = checkLeaseStates(await this.#store.renew(asked), leases.length)
    for (const [index, lease] of leases.entries()) {
      const state = states[index]
      // Its stream may have closed meanwhile, or a notice may have ended it.
      if (lease.stored === 'ended' || !this.#held.has(lease.slotId)) continue
      if (state === 'renewed') {
        lease.stored = 'yes'
        if (askedAt >= this.#overdueSince) lease.isOverdue = false
      } else if (state === 'evicted' || state === 'kicked') {
        this.#events.onEnd(lease, state)
      } else {
        lease.stored = 'no'
      }
    }
  }

  /** The leases of one key one after the other, the oldest first, so that it is the newest which find no room. */
  async #takeAgain(leases: readonly SlotLease[]): Promise<void> {
    const leasesOf = new Map<string, SlotLease[]>()
    for (const lease of leases) {
      const ofKey = leasesOf.get(lease.key)
      if (ofKey) ofKey.push(lease)
      else leasesOf.set(lease.key, [lease])
    }
    await inBatches([...leasesOf.values()], async (ofKey) => {
      for (const lease of ofKey) await this.#takeOneAgain(lease)
    })
  }

  async #takeOneAgain(lease: SlotLease): Promise<void> {
    const { key, slotId, limit } = lease
    if (!this.#held.has(slotId) || !isMissing(lease)) return
    lease.stored = 'maybe'
    const { granted } = checkGrant(await this.#store.acquire(key, slotId, lease.isOverdue ? limit : Infinity))
    // Its stream closed meanwhile, and the release may have overtaken the acquire.
    if (!this.#held.has(slotId)) return this.#store.release(key, slotId)
    lease.isOverdue = false
    if (granted) lease.stored = 'yes'
    else this.#events.onEnd(lease, 'evicted')
  }
}
