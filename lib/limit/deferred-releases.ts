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

  constructor(store: SlotStore) {
    this.#store = store
  }

  add({ key, slotId, remote }: ClosedSlot): void {
    const expiresAt = remote === 'held' ? performance.now() + (this.#store.leaseMs ?? Infinity) : Infinity
    this.#slots.set(slotId, { key, slotId, remote, expiresAt })
  }

  delete(slotId: string): void {
    this.#slots.delete(slotId)
  }

  /**
   * Drops slots that the store has forgotten by itself. Not those that it may never have had: the client may still
   * have their acquire in a queue. But of these there may be no end, so at last the oldest go too.
   */
  dropExpired(): void {
    const now = performance.now()
    for (const [slotId, { expiresAt }] of this.#slots) {
      if (expiresAt < now || this.#slots.size > MAX_KEPT) this.#slots.delete(slotId)
    }
  }

  /**
   * Releases each by itself. One that the store refuses is kept, for as long as the store can remember it, and told to
   * `onFailure`; it does not keep the others back. Never rejects.
   *
   * @param isWanted which slots to release.
   */
  async release(
    isWanted: (slot: ClosedSlot) => boolean,
    onFailure: (key: string, error: unknown) => void,
  ): Promise<void> {
    await inBatches([...this.#slots.values()].filter(isWanted), async (slot) => {
      try {
        await this.#store.release(slot.key, slot.slotId)
        this.#slots.delete(slot.slotId)
      } catch (error) {
        const refusedUntil = performance.now() + (this.#store.leaseMs ?? MAX_REFUSED_MS)
        slot.expiresAt = Math.min(slot.expiresAt, refusedUntil)
        onFailure(slot.key, error)
      }
    })
  }

  /** Takes out what is left of the keys that are wanted. */
  take(isWanted: (slot: ClosedSlot) => boolean): ClosedSlot[] {
    const taken = [...this.#slots.values()].filter(isWanted)
    for (const { slotId } of taken) this.#slots.delete(slotId)
    return taken
  }
}
