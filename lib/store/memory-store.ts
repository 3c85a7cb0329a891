import type { Grant, SlotStore } from './slot-store.js'

/**
 * Slots in this process's memory: the default store, exact for an application that runs as one process.
 *
 * It answers synchronously and needs no expiry, because its slots cannot extend_ttl the streams they stand for.
 * A key without slots takes no memory.
 */
export class MemoryStore implements SlotStore {
  readonly #slotsOf = new Map<string, Set<string>>()

  acquire(key: string, slotId: string, limit: number): Grant {
    const slots = this.#slotsOf.get(key)
    const held = slots?.size ?? 0
    if (slots?.has(slotId)) return { granted: true, held }
    if (held >= limit) return { granted: false, held }
    if (slots) slots.add(slotId)
    else this.#slotsOf.set(key, new Set([slotId]))
    return { granted: true, held: held + 1 }
  }

  release(key: string, slotId: string): void {
    const slots = this.#slotsOf.get(key)
    if (slots?.delete(slotId) && slots.size === 0) this.#slotsOf.delete(key)
  }

  count(key: string): number {
    return this.#slotsOf.get(key)?.size ?? 0
  }

  /** How many keys hold a slot now. */
  get size(): number {
    return this.#slotsOf.size
  }
}
