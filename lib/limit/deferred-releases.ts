import type { SlotStore } from '../store/slot-store.js'
import { inBatches } from './in-batches.js'
import type { SlotLease } from './slot-lease.js'

/** What a release needs of a lease. Not the lease itself, which would hold on to the response. */
export type ClosedSlot = Pick<SlotLease, 'key' | 'slotId' | 'remote'>

/** A slot that is to be released when the store answers again. */
interface DeferredRelease extends ClosedSlot {
  /** When the store has forgotten the slot by itself. Infinity: it never does, or may not have taken the slot yet. */
  expiresAt: number
}

/** How many of them are kept, at some 200 bytes. A slot that is dropped is free again a lease after it was taken. */
const MAX_KEPT = 10_000

/** How long a store without leases is asked for a release that it refuses. */
const MAX_REFUSED_MS = 3_600_000

/** Slots that a store may still have although their streams have closed while it did not answer. */
export class DeferredReleases {
  readonly #store: SlotStore
  /** By slot id, oldest first. */
  readonly #slots = new Map<string, DeferredRelease>()
  /** The same by key and slot id. No key without any. */
  readonly #slotsOf = new Map<string, Map<string, DeferredRelease>>()

  constructor(store: SlotStore) {
    this.#store = store
  }

  add({ key, slotId, remote }: ClosedSlot): void {
    const expiresAt = remote === 'held' ? performance.now() + (this.#store.leaseMs ?? Infinity) : Infinity
    const slot = { key, slotId, remote, expiresAt }
    this.#slots.set(slotId, slot)
    this.#slotsOf.set(key, (this.#slotsOf.get(key) ?? new Map<string, DeferredRelease>()).set(slotId, slot))
  }

  delete({ key, slotId }: Pick<ClosedSlot, 'key' | 'slotId'>): void {
    this.#slots.delete(slotId)
    const slots = this.#slotsOf.get(key)
    if (slots?.delete(slotId) && slots.size === 0) this.#slotsOf.delete(key)
  }

  /**
   * Drops slots that the store has forgotten by itself. Not those that it may never have had: the client may still
   * have their acquire in a queue. But of these there may be no end, so at last the oldest go too.
   */
  dropExpired(): void {
    const now = performance.now()
    for (const slot of this.#slots.values()) {
      if (slot.expiresAt < now || this.#slots.size > MAX_KEPT) this.delete(slot)
    }
  }

  /** The keys that have a slot to be released. */
  keys(): string[] {
    return [...this.#slotsOf.keys()]
  }

  /**
   * Releases the slots of some keys, each by itself. One that the store refuses is kept, for as long as the store can remember
   * it, and told to `onFailure`; it does not keep the others back. Never rejects.
   */
  async release(keys: readonly string[], onFailure: (key: string, error: unknown) => void): Promise<void> {
    await inBatches(this.#ofKeys(keys), async (slot) => {
      try {
        await this.#store.release(slot.key, slot.slotId)
        this.delete(slot)
      } catch (error) {
        const refusedUntil = performance.now() + (this.#store.leaseMs ?? MAX_REFUSED_MS)
        slot.expiresAt = Math.min(slot.expiresAt, refusedUntil)
        onFailure(slot.key, error)
      }
    })
  }

  /** Takes out what is left of some keys. */
  take(keys: readonly string[]): ClosedSlot[] {
    const taken = this.#ofKeys(keys)
    for (const slot of taken) this.delete(slot)
    return taken
  }

  #ofKeys(keys: readonly string[]): DeferredRelease[] {
    return keys.flatMap((key) => [...(this.#slotsOf.get(key)?.values() ?? [])])
  }
}
