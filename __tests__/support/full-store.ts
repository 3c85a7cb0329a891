import type { AcquireOptions, Grant, HeldSlot, Lease, LeaseState, SlotStore } from 'express-sse-guard'

interface Slot {
  expiresAt: number
  meta?: AcquireOptions['meta']
}

/** A clock that a test sets. */
export interface Clock {
  now: number
}

/** A slot store with all that the contract names, in memory, for tests that break it in one place. */
export class FullStore implements SlotStore {
  readonly leaseMs: number = 1000
  /** The slots of each key, in the order in which they were acquired. */
  protected readonly slotsOf = new Map<string, Map<string, Slot>>()
  protected readonly ended = new Map<string, 'evicted' | 'kicked'>()
  protected watcher: Parameters<NonNullable<SlotStore['watch']>>[0] | undefined

  constructor(protected readonly clock: Clock) {}

  acquire(key: string, slotId: string, limit: number, options: AcquireOptions = {}): Grant | Promise<Grant> {
    const slots = this.open(key)
    if (slots.has(slotId)) return { granted: true, held: slots.size }
    const surplus = slots.size - limit + 1
    if (surplus > 0 && !(options.evictOldest && limit > 0)) return { granted: false, held: slots.size }
    const evicted = [...slots.keys()].slice(0, Math.max(0, surplus))
    this.end(key, evicted, 'evicted')
    this.add(key, slotId, options.meta)
    return { granted: true, held: slots.size, ...(evicted.length > 0 && { evicted }) }
  }

  release(key: string, slotId: string): void {
    this.open(key).delete(slotId)
  }

  count(key: string): number {
    return this.open(key).size
  }

  renew(leases: readonly Lease[]): LeaseState[] {
    return leases.map(({ key, slotId }) => {
      const slot = this.open(key).get(slotId)
      if (!slot) return this.ended.get(slotId) ?? 'lost'
      slot.expiresAt = this.clock.now + this.leaseMs
      return 'renewed'
    })
  }

  kick(key: string): string[] {
    const slotIds = [...this.open(key).keys()]
    this.end(key, slotIds, 'kicked')
    return slotIds
  }

  list(key: string): HeldSlot[] {
    return [...this.open(key)].map(([slotId, { meta }]) => ({ slotId, ...(meta && { meta }) }))
  }

  watch(onEnded: (slotIds: readonly string[], state: 'evicted' | 'kicked') => void): void {
    this.watcher = onEnded
  }

  /** The slots of a key, without those that have expired. */
  protected open(key: string): Map<string, Slot> {
    const slots = this.slotsOf.get(key) ?? new Map<string, Slot>()
    this.slotsOf.set(key, slots)
    for (const [slotId, { expiresAt }] of slots) if (expiresAt <= this.clock.now) slots.delete(slotId)
    return slots
  }

  protected add(key: string, slotId: string, meta?: AcquireOptions['meta']): void {
    this.open(key).set(slotId, { expiresAt: this.clock.now + this.leaseMs, ...(meta && { meta }) })
  }

  protected end(key: string, slotIds: readonly string[], state: 'evicted' | 'kicked'): void {
    for (const slotId of slotIds) {
      this.open(key).delete(slotId)
      this.ended.set(slotId, state)
    }
    if (slotIds.length > 0) this.watcher?.(slotIds, state)
  }
}
