import type { EndReason } from '../endings.js'

/**
 * What the store knows of a lease, as far as this process can tell:
 *
 * - `'held'`: it has granted or renewed it;
 * - `'missing'`: it was granted here while the store was away, or the store has lost it. It is to be put back;
 * - `'unknown'`: the answer to an acquire did not arrive. It is to be put back, or else to be released;
 * - `'revoked'`: its slot was given to another stream, or taken from its user. It must not come back.
 */
export type Remote = 'held' | 'missing' | 'unknown' | 'revoked'

/** One slot of one stream, as the process that serves the stream holds it. */
export class SlotLease {
  remote: Remote = 'missing'

  /** Whether its renewal came so late that the store has forgotten it by rights: others may have its place now. */
  isRenewedLate = false

  /**
   * @param limit the limit it was asked with, which still holds if its place must be taken again.
   * @param end ends the stream.
   */
  constructor(
    readonly key: string,
    readonly slotId: string,
    readonly limit: number,
    readonly end: (reason: EndReason) => void,
  ) {}
}

/** Whether a lease must be put back. */
export function isMissing({ remote }: Pick<SlotLease, 'remote'>): boolean {
  return remote === 'missing' || remote === 'unknown'
}

/** Whether the store may have a lease. */
export function mayBeHeld({ remote }: Pick<SlotLease, 'remote'>): boolean {
  return remote === 'held' || remote === 'unknown'
}
