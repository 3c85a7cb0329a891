import { setImmediate } from 'node:timers/promises'

/** Two are needed, over TCP and over TLS. */
const MOST_TURNS = 4

/**
 * Waits some turns of the event loop, but no longer than until something is so.
 *
 * For streams that are closing: a page that is reloaded closes its stream and opens the next at once, and of what
 * reaches the process in one turn, Node reports the request first and the close two turns later. A refusal in between
 * would be final, as an EventSource does not come back from one (WHATWG HTML 9.2.3).
 */
export async function someTurnsUntil(isSo: () => boolean): Promise<void> {
  for (let turn = 0; turn < MOST_TURNS && !isSo(); turn += 1) await setImmediate()
}
