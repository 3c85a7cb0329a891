import { isPromise } from '../is-promise.js'
import type { Projection } from './viewer-events.js'

/**
 * Why an event was withheld, checked in this order:
 * - `invalid`: it is no object with a string `event`, or (checked after `bad-id`) the rule of its name refused it;
 * - `unlisted`: its name is not on the whitelist;
 * - `bad-id`: its `id` is neither undefined nor a string without CR, LF and NUL;
 * - `unserialisable`: what remained of it cannot be written as JSON (a BigInt, a cycle, a function).
 */
export type WithholdReason = 'unlisted' | 'invalid' | 'unserialisable' | 'bad-id'

/** One event as it stands on the wire, and its id if it has one. */
interface Frame {
  text: string
  id: string | undefined
}

/** A frame, or the reason why there is none. */
export type Framed = Frame | WithholdReason

/**
 * Takes one `{ event, data?, id? }` through the whitelist and writes it as a frame (WHATWG HTML 9.2.5): the
 * only way to make text that a connection accepts as an event. Answers at once unless its schema is async.
 *
 * There is an `id:` line only if an id was given. `data` is one line of JSON; undefined becomes `null`.
 */
export function frameEvent(
  projections: ReadonlyMap<string, Projection>,
  item: unknown,
): Framed | Promise<Framed> {
  if (typeof item !== 'object' || item === null) return 'invalid'
  try {
    const { event } = item as { event?: unknown }
    if (typeof event !== 'string') return 'invalid'
    const project = projections.get(event)
    if (!project) return 'unlisted'
    const { id } = item as { id?: unknown }
    if (!isId(id)) return 'bad-id'
    const { data } = item as { data?: unknown }
    const framed = project(data, (kept) => serialise(event, id, kept))
    return isPromise(framed) ? Promise.resolve(framed).catch(() => 'invalid') : framed
  } catch {
    // A getter of the event threw, or its schema did.
    return 'invalid'
  }
}

function isId(id: unknown): id is string | undefined {
  return id === undefined || (typeof id === 'string' && !/[\r\n\0]/.test(id))
}

function serialise(event: string, id: string | undefined, data: unknown): Framed {
  let json: string | undefined
  try {
    // JSON escapes every line break, so the text is one line.
    json = data === undefined ? 'null' : JSON.stringify(data)
  } catch {
    return 'unserialisable'
  }
  if (json === undefined) return 'unserialisable'
  // The space after each colon is not part of the value; without it a value's own leading space would be lost.
  const idLine = id === undefined ? '' : `id: ${id}\n`
  return { text: `event: ${event}\n${idLine}data: ${json}\n\n`, id }
}
