import { setImmediate } from 'node:timers/promises'

/** Two are needed, over TCP and over TLS. */
const MAX_TICKS = 4

/**
 * Waits some turns of the event loop, but no longer than until `isDone`.
 *
 * A page that is reloaded closes its stream and opens the next at once. Of what reaches the process in one turn, Node
 * reports the request first and the close two turns later. A refusal in between would be final, as an EventSource does not
 * come back from one (WHATWG HTML 9.2.3).
 */
export async function waitForPendingClose(isDone: () => boolean): Promise<void> {
  for (let tick = 0; tick < MAX_TICKS && !isDone(); tick += 1) await setImmediate()
}
