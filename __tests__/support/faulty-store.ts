import { type Grant, type Lease, type LeaseState, MemoryStore, type SlotStore } from 'express-sse-guard'

/** A store with leases, in memory, that answers later and that can be made to fail in every way. */
export class FaultyStore implements SlotStore {
  /** Replace it to make the store lose everything. */
  slots = new MemoryStore()
  /** The names of the methods that were called. */
  readonly calls: string[] = []
  /** How many calls are being answered. */
  answering = 0
  /** Throws, or waits, in the place of an answer. Called with the name of the method, and the key if there is one. */
  fault: ((method: string, key?: string) => unknown) | undefined
  /** Runs when an acquire or a release has happened but its answer is still to come. */
  afterwards: ((method: string) => unknown) | undefined
  /** What a renewal says of a key's slots, instead of the truth. */
  readonly endedAs = new Map<string, LeaseState>()

  /** The ids of the slots that were asked for, in order. */
  readonly asked: string[] = []
  /** Gives notice that slots were ended. */
  notify: (slotIds: readonly string[], state: 'evicted' | 'kicked') => void = () => {}

  constructor(readonly leaseMs: number) {}

  watch(onEnded: FaultyStore['notify']): void {
    this.notify = onEnded
  }

  async acquire(key: string, slotId: string, limit: number): Promise<Grant> {
    this.asked.push(slotId)
    return this.#answer('acquire', () => this.slots.acquire(key, slotId, limit), key)
  }

  async release(key: string, slotId: string): Promise<void> {
    return this.#answer('release', () => this.slots.release(key, slotId), key)
  }

  async count(key: string): Promise<number> {
    return this.#answer('count', () => this.slots.count(key), key)
  }

  async renew(leases: readonly Lease[]): Promise<LeaseState[]> {
    return this.#answer('renew', () =>
      leases.map(({ key, slotId }) => {
        const ended = this.endedAs.get(key)
        if (ended) return ended
        // With no room at all, only a slot that is held already is granted.
        return this.slots.acquire(key, slotId, 0).granted ? 'renewed' : 'lost'
      }),
    )
  }

  async #answer<Answer>(method: string, answer: () => Answer, key?: string): Promise<Answer> {
    this.calls.push(method)
    this.answering += 1
    try {
      await this.fault?.(method, key)
      const answered = answer()
      await this.afterwards?.(method)
      return answered
    } finally {
      this.answering -= 1
    }
  }
}
