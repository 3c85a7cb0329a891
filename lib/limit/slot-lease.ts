import type { StreamEnd } from '../endings.js'

/**
 * What the store knows of a lease, as far as this process can tell:
 *
 * - `'yes'`: it has granted or renewed it;
 * - `'no'`: it was granted here while the store was away, or the store has lost it. It is to be put back;
 * - `'maybe'`: the answer to an acquire did not arrive. It is to be put back, or else to be released;
 * - `'ended'`: its slot was given to another stream, or taken from its user. It must not come back.
 */
export type Stored = 'yes' | 'no' | 'maybe' | 'ended'

/** One slot of one stream, as the process that serves the stream holds it. */
export class SlotLease {
  stored: Stored = 'no'

  /** Whether its renewal came so late that the store has forgotten it by rights: others may have its place now. */
  isOverdue = false

  /**
   * @param limit the limit it was asked with, which still holds if its place must be taken again.
   * @param end ends the stream.
   */
  constructor(
    readonly key: string,
    readonly slotId: string,
    readonly limit: number,
    readonly end: (reason: StreamEnd) => void,
  ) {}
}

/** Whether a lease must be put back. */
export function isMissing({ stored }: Pick<SlotLease, 'stored'>): boolean {
  return stored === 'no' || stored === 'maybe'
}

/** Whether the store may have a lease. */
export function mayBeStored({ stored }: Pick<SlotLease, 'stored'>): boolean {
  return stored === 'yes' || stored === 'maybe'
}
