import { inBatches } from './in-batches.js'
import type { SlotLease } from './slot-lease.js'
import type { SlotStore } from './slot-store.js'

/** What a release needs of a lease. Not the lease itself, which would hold on to the response. */
export type ClosedSlot = Pick<SlotLease, 'key' | 'slotId' | 'stored'>

/** A slot that is to be released when the store is back. */
type LateRelease = ClosedSlot & { goneAt: number }

/** How many of them are kept, at some 200 bytes. Whatever is forgotten is free again a lease after it was taken. */
const MOST_KEPT = 10_000

/** Slots that a store may still have although their streams have closed while it was away. */
export class LateReleases {
  readonly #store: SlotStore
  readonly #slots = new Map<string, LateRelease>()

  constructor(store: SlotStore) {
    this.#store = store
  }

  add({ key, slotId, stored }: ClosedSlot): void {
    const goneAt = stored === 'yes' ? performance.now() + (this.#store.leaseMs ?? Infinity) : Infinity
    this.#slots.set(slotId, { key, slotId, stored, goneAt })
  }

  delete(slotId: string): void {
    this.#slots.delete(slotId)
  }

  /**
   * Forgets slots that the store has forgotten by itself. Not those that it may never have had: the client may still
   * have their acquire in a queue. But of these there may be no end, so at last the oldest go too.
   */
  forgetGone(): void {
    const now = performance.now()
    for (const [slotId, { goneAt }] of this.#slots) {
      if (goneAt < now || this.#slots.size > MOST_KEPT) this.#slots.delete(slotId)
    }
  }

  /** Releases them. Rejects if the store fails; what was not released is kept. */
  async release(): Promise<void> {
    await inBatches([...this.#slots.values()], async ({ key, slotId }) => {
      await this.#store.release(key, slotId)
      this.#slots.delete(slotId)
    })
  }

  /** Takes out what is left. */
  take(): LateRelease[] {
    const left = [...this.#slots.values()]
    this.#slots.clear()
    return left
  }
}
