import { setImmediate } from 'node:timers/promises'
import type { AcquireOptions, Grant, Lease, LeaseState, SlotStore } from 'express-sse-guard'
import { type Clock, FullStore } from './full-store.js'

// Stores that are each wrong in one way, which their names say. The suite must see it.

/** What is often written instead of leases: INCR and EXPIRE on the way in, DECR on the way out. */
export class CounterWithTtl implements SlotStore {
  readonly leaseMs = 1000
  readonly #counters = new Map<string, { value: number; expiresAt: number }>()

  constructor(private readonly clock: Clock) {}

  acquire(key: string, _slotId: string, limit: number): Grant {
    const held = this.#add(key, 1)
    if (held <= limit) return { granted: true, held }
    return { granted: false, held: this.#add(key, -1) }
  }

  release(key: string): void {
    this.#add(key, -1)
  }

  count(key: string): number {
    const counter = this.#counters.get(key)
    return counter && counter.expiresAt > this.clock.now ? counter.value : 0
  }

  renew(leases: readonly Lease[]): LeaseState[] {
    return leases.map(({ key }) => {
      if (this.count(key) === 0) return 'lost'
      this.#add(key, 0)
      return 'renewed'
    })
  }

  #add(key: string, change: number): number {
    const value = this.count(key) + change
    this.#counters.set(key, { value, expiresAt: this.clock.now + this.leaseMs })
    return value
  }
}

export class ReleaseWithoutIdentity extends FullStore {
  override release(key: string): void {
    const [oldest] = this.open(key).keys()
    if (oldest !== undefined) this.open(key).delete(oldest)
  }
}

export class AcquireInTwoSteps extends FullStore {
  override async acquire(
    key: string,
    slotId: string,
    limit: number,
    options?: AcquireOptions,
  ): Promise<Grant> {
    const held = this.count(key)
    if (this.open(key).has(slotId)) return { granted: true, held }
    if (held >= limit) return super.acquire(key, slotId, limit, options)
    await setImmediate()
    this.add(key, slotId, options?.meta)
    return { granted: true, held: held + 1 }
  }
}

export class AcquireRefusesWhatIsHeld extends FullStore {
  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    const held = this.count(key)
    return held >= limit && !options?.evictOldest
      ? { granted: false, held }
      : super.acquire(key, slotId, limit, options)
  }
}

export class AcquireCountsTwice extends FullStore {
  #calls = 0

  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    this.#calls += 1
    const isHeld = this.open(key).has(slotId)
    return super.acquire(key, isHeld ? `${slotId}#${this.#calls}` : slotId, limit, options)
  }
}

export class AcquireKeepsWhatItRefused extends FullStore {
  override async acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    const grant = await super.acquire(key, slotId, limit, options)
    if (!grant.granted) this.add(key, slotId)
    return grant
  }
}

export class AcquireCutsToTheLimit extends FullStore {
  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    const surplus = this.count(key) - limit
    for (const held of [...this.open(key).keys()].slice(0, Math.max(0, surplus))) this.release(key, held)
    return super.acquire(key, slotId, limit, options)
  }
}

export class KeysInAPattern extends FullStore {
  protected override open(key: string) {
    return super.open(key.toLowerCase().trim())
  }
}

export class NeverForgets extends FullStore {
  protected override add(key: string, slotId: string): void {
    this.open(key).set(slotId, { expiresAt: Infinity })
  }
}

export class ForgetsTooEarly extends FullStore {
  protected override add(key: string, slotId: string): void {
    this.open(key).set(slotId, { expiresAt: this.clock.now + this.leaseMs / 2 })
  }
}

export class RenewRevives extends FullStore {
  override renew(leases: readonly Lease[]): LeaseState[] {
    return leases.map(({ key, slotId }) => {
      this.add(key, slotId)
      return 'renewed'
    })
  }
}

export class RenewRevivesQuietly extends FullStore {
  override renew(leases: readonly Lease[]): LeaseState[] {
    const states = super.renew(leases)
    for (const { key, slotId } of leases) this.add(key, slotId)
    return states
  }
}

export class RenewAnswersByKey extends FullStore {
  override renew(leases: readonly Lease[]): LeaseState[] {
    return super.renew([...leases].sort((one, other) => one.key.localeCompare(other.key)))
  }
}

export class KickWithoutTombstone extends FullStore {
  override kick(key: string): string[] {
    const slotIds = super.kick(key)
    for (const slotId of slotIds) this.ended.delete(slotId)
    return slotIds
  }
}

export class KickBarsTheKey extends FullStore {
  readonly #barred = new Set<string>()

  override kick(key: string): string[] {
    this.#barred.add(key)
    return super.kick(key)
  }

  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    return super.acquire(key, slotId, this.#barred.has(key) ? 0 : limit, options)
  }
}

export class EvictsByRenewal extends FullStore {
  override renew(leases: readonly Lease[]): LeaseState[] {
    const states = super.renew(leases)
    for (const { key, slotId } of leases.filter((_, n) => states[n] === 'renewed')) {
      this.release(key, slotId)
      this.add(key, slotId)
    }
    return states
  }
}

export class EvictsOneOnly extends FullStore {
  protected override end(key: string, slotIds: readonly string[], state: 'evicted' | 'kicked'): void {
    super.end(key, state === 'evicted' ? slotIds.slice(0, 1) : slotIds, state)
  }
}

export class EvictsForALimitOf0 extends FullStore {
  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    return super.acquire(key, slotId, options?.evictOldest ? Math.max(1, limit) : limit, options)
  }
}

export class EvictsWithoutTombstone extends FullStore {
  protected override end(key: string, slotIds: readonly string[], state: 'evicted' | 'kicked'): void {
    super.end(key, slotIds, state)
    if (state === 'evicted') for (const slotId of slotIds) this.ended.delete(slotId)
  }
}

export class ListsNewestFirst extends FullStore {
  override list(key: string) {
    return super.list(key).reverse()
  }
}

export class ListsWithoutMeta extends FullStore {
  override list(key: string) {
    return super.list(key).map(({ slotId }) => ({ slotId }))
  }
}

export class WatchThrows extends FullStore {
  override watch(): void {
    throw new Error('There is no connection')
  }
}

export class ReleaseDoesNothing extends FullStore {
  override release(): void {}
}

export class InfinityIsNothing extends FullStore {
  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    // As it would be after a way through JSON.
    return super.acquire(key, slotId, limit === Infinity ? 0 : limit, options)
  }
}

export class LeasesWithoutRenewal extends FullStore {
  constructor(clock: Clock) {
    super(clock)
    Object.assign(this, { renew: undefined })
  }
}

export class RenewWantsALease extends FullStore {
  override renew(leases: readonly Lease[]): LeaseState[] {
    if (leases.length === 0) throw new Error('Syntax error near ()')
    return super.renew(leases)
  }
}

export class KicksEverybody extends FullStore {
  override kick(): string[] {
    return [...this.slotsOf.keys()].flatMap((key) => super.kick(key))
  }
}

export class KickWantsAKnownKey extends FullStore {
  override kick(key: string): string[] {
    if (!this.slotsOf.has(key)) throw new Error(`No such key: ${key}`)
    return super.kick(key)
  }
}

export class EvictsNewest extends FullStore {
  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    const slots = this.open(key)
    const newest = [...slots.keys()].at(-1)
    if (!options?.evictOldest || slots.has(slotId) || slots.size !== limit || newest === undefined) {
      return super.acquire(key, slotId, limit, options)
    }
    this.end(key, [newest], 'evicted')
    this.add(key, slotId)
    return { granted: true, held: limit, evicted: [newest] }
  }
}

export class EvictsAlways extends FullStore {
  override acquire(key: string, slotId: string, limit: number, options?: AcquireOptions) {
    const held = this.count(key)
    const isHeld = this.open(key).has(slotId)
    return super.acquire(
      key,
      slotId,
      options?.evictOldest && !isHeld ? Math.min(limit, held) : limit,
      options,
    )
  }
}

export class EvictsOfEveryKey extends FullStore {
  protected override end(key: string, slotIds: readonly string[], state: 'evicted' | 'kicked'): void {
    super.end(key, slotIds, state)
    if (state === 'evicted')
      for (const other of this.slotsOf.keys()) super.end(other, [...this.open(other).keys()], state)
  }
}

export class ListWantsAKnownKey extends FullStore {
  override list(key: string) {
    if (!this.slotsOf.has(key)) throw new Error(`No such key: ${key}`)
    return super.list(key)
  }
}

export class ListsWhatWasEnded extends FullStore {
  override list(key: string) {
    return [...super.list(key), ...[...this.ended.keys()].map((slotId) => ({ slotId }))]
  }
}

/** All slots of a key expire together, three leases after a renewal that is thorough: one in each lease of the store. */
export class ProlongsInTurn extends FullStore {
  readonly #expiresAt = new Map<string, number>()
  #thoroughAt = Number.NEGATIVE_INFINITY

  protected override open(key: string) {
    if ((this.#expiresAt.get(key) ?? Infinity) <= this.clock.now) this.slotsOf.delete(key)
    return super.open(key)
  }

  protected override add(key: string, slotId: string, meta?: AcquireOptions['meta']): void {
    super.add(key, slotId, meta)
    this.#expiresAt.set(key, this.clock.now + 3 * this.leaseMs)
  }

  override renew(leases: readonly Lease[]): LeaseState[] {
    const isThorough = this.clock.now - this.#thoroughAt > 0.5 * this.leaseMs
    if (isThorough) this.#thoroughAt = this.clock.now
    const states = super.renew(leases)
    for (const { key } of isThorough ? leases : []) {
      this.#expiresAt.set(key, this.clock.now + 3 * this.leaseMs)
    }
    return states
  }
}

export class EndsQuietly extends FullStore {
  override watch(): void {}
}
