import { streamError } from '../errors.js'
import type { WithholdReason } from '../events/frame-event.js'

const REMEDIES: Readonly<Record<WithholdReason, string>> = {
  unlisted: 'list it in defineEvents, or do not stream it to this session',
  invalid: 'give { event, data } with the name as a string, and data that fits its rule in defineEvents',
  'bad-id': 'give an id that is a string of printable ASCII, such as String(row.id), or none',
  unserialisable:
    'give data that JSON.stringify can write: no BigInt, cycle, function, Promise, Map, Set or Error',
  unchecked: 'use streamEvents, which waits for an async schema',
}

/** The error with which `strict` rejects at the first withheld event. It says what to give instead. */
export function withheldInStrict(event: unknown, reason: WithholdReason) {
  return streamError('ERR_STREAM_WITHHELD', `${nameOf(event)} was withheld (${reason}); ${REMEDIES[reason]}`)
}

function nameOf(item: unknown): string {
  try {
    const { event } = item as { event?: unknown }
    if (typeof event === 'string') return `The event ${JSON.stringify(event)}`
  } catch {
    // It has no properties, or none that can be read.
  }
  return 'An event without a name'
}
