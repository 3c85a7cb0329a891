import type { Grant } from '../store/slot-store.js'
import type { SlotLease } from './slot-lease.js'

/** The leases of the streams that one limiter holds open in this process, oldest first. */
export class HeldLeases {
  /** By slot id, until their responses have closed. */
  readonly #leases = new Map<string, SlotLease>()
  /** By key and slot id, those that still have their slot: what a store of this process alone would count. */
  readonly #slotsOf = new Map<string, Map<string, SlotLease>>()

  get size(): number {
    return this.#leases.size
  }

  get(slotId: string): SlotLease | undefined {
    return this.#leases.get(slotId)
  }

  /** How many slots a key holds. */
  count(key: string): number {
    return this.#slotsOf.get(key)?.size ?? 0
  }

  /** The leases of a key that still have their slot. */
  ofKey(key: string): readonly SlotLease[] {
    return [...(this.#slotsOf.get(key)?.values() ?? [])]
  }

  /** All leases, also those whose slot is gone while their responses are still closing. */
  values(): Iterable<SlotLease> {
    return this.#leases.values()
  }

  /** Every key that has a slot, with its leases. */
  *byKey(): Iterable<[string, readonly SlotLease[]]> {
    for (const [key, slots] of this.#slotsOf) yield [key, [...slots.values()]]
  }

  /** Some keys that have a slot, from a random place on: the same ones each time might all lie on a node that is down. */
  someKeys(most: number): string[] {
    const keys = [...this.#slotsOf.keys()]
    const start = Math.floor(Math.random() * keys.length)
    return [...keys.slice(start), ...keys.slice(0, start)].slice(0, most)
  }

  /** Takes a slot for a lease if its key holds fewer than `limit`. */
  add(lease: SlotLease, limit: number): Grant {
    const { key, slotId } = lease
    const held = this.count(key)
    if (held >= limit) return { granted: false, held }
    const slots = this.#slotsOf.get(key) ?? new Map<string, SlotLease>()
    this.#slotsOf.set(key, slots.set(slotId, lease))
    this.#leases.set(slotId, lease)
    return { granted: true, held: held + 1 }
  }

  /** The response has closed. @returns whether the lease was held. */
  delete(lease: SlotLease): boolean {
    this.freeSlot(lease)
    return this.#leases.delete(lease.slotId)
  }

  /** The slot of a lease is gone, while its response may still be closing. */
  freeSlot({ key, slotId }: SlotLease): void {
    const slots = this.#slotsOf.get(key)
    if (slots?.delete(slotId) && slots.size === 0) this.#slotsOf.delete(key)
  }
}
