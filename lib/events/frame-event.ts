import { types } from 'node:util'
import { isPromise, isTimerMs } from '../checks.js'
import type { CompiledRule, RuleResult } from './event-rule.js'
import type { CompiledRules } from './viewer-events.js'

/**
 * Why an event was withheld, checked in this order:
 * - `invalid`: it is not an object with at least one of `event`, `data`, `id` and `retry`; `event` is not a non-empty
 *   string; or `retry` is not an integer from 1 to 2147483647;
 * - `unlisted`: its name is not on the whitelist;
 * - `bad-id`: its `id` is not printable ASCII without leading or trailing space, of at most 4096 bytes;
 * - `invalid`: the rule of its name refused the payload;
 * - `unserialisable`: what the rule kept cannot be written as JSON (a BigInt, a cycle, a function). A payload that is a
 *   Promise, Map, Set or Error without `toJSON` is so under every rule, as JSON would make it `{}`;
 * - `unchecked`: `session.push` met an async schema, and cannot wait for it.
 */
export type WithholdReason = 'unlisted' | 'invalid' | 'unserialisable' | 'bad-id' | 'unchecked'

/** One event as it stands on the wire. */
interface Frame {
  readonly text: string
  /** How long the text is as UTF-8. */
  readonly bytes: number
  /** The id that a client will send back, if the event has one. */
  readonly id: string | undefined
  /** False for a `retry` alone, which no client dispatches. */
  readonly isEvent: boolean
}

/** A frame, or the reason why there is none. */
export type FrameResult =
  | { readonly ok: true; readonly frame: Frame }
  | { readonly ok: false; readonly reason: WithholdReason }

/** The fields that go into one frame, apart from its data. */
interface Fields {
  name: string
  id: string | undefined
  retry: number | undefined
}

/**
 * Takes one `{ event?, data?, id?, retry? }` through the whitelist and writes it as a frame (WHATWG HTML 9.2.5): the
 * only way to make text that a connection accepts as an event. Answers at once unless its schema is async. Never throws.
 */
export function frameEvent(rules: CompiledRules, item: unknown): FrameResult | Promise<FrameResult> {
  if (typeof item !== 'object' || item === null) return withheld('invalid')
  try {
    const { event, retry } = item as { event?: unknown; retry?: unknown }
    if (event !== undefined && (typeof event !== 'string' || event === '')) return withheld('invalid')
    if (retry !== undefined && !isTimerMs(retry)) return withheld('invalid')
    if (event === undefined && !('data' in item) && (item as { id?: unknown }).id === undefined) {
      return retry === undefined ? withheld('invalid') : retryAlone(retry)
    }
    const name = event ?? 'message'
    const rule = rules.get(name)
    if (!rule) return withheld('unlisted')
    const { id } = item as { id?: unknown }
    if (!isId(id)) return withheld('bad-id')
    const { data } = item as { data?: unknown }
    if (isEmptyInJson(data)) return withheld('unserialisable')
    const fields = { name, id, retry }
    const kept = rule.keep(data)
    if (!(kept instanceof Promise)) return write(fields, rule, kept)
    return kept.then((result) => write(fields, rule, result)).catch(() => withheld('invalid'))
  } catch {
    // A getter of the event threw.
    return withheld('invalid')
  }
}

function withheld(reason: WithholdReason): FrameResult {
  return { ok: false, reason }
}

/** A line of its own without a blank line behind it: some parsers dispatch an empty event at every blank line. */
function retryAlone(retry: number): FrameResult {
  return frameOf(`retry: ${retry}\n`, undefined, false)
}

/** The longest id that fits into a request header next to others: node:http refuses 16 KB of headers with 431. */
const MAX_ID_BYTES = 4096

/**
 * Whether a browser can send an id back as it was: a header value cannot hold other characters, and loses leading and
 * trailing spaces (Fetch 2.2.2).
 */
function isId(id: unknown): id is string | undefined {
  if (id === undefined || id === '') return true
  return typeof id === 'string' && id.length <= MAX_ID_BYTES && /^[!-~](?:[ -~]*[!-~])?$/.test(id)
}

/** Whether JSON.stringify would make an object `{}` although it holds something: a forgotten `await`, or a Map. */
function isEmptyInJson(data: unknown): boolean {
  if (typeof data !== 'object' || data === null) return false
  const prototype = Object.getPrototypeOf(data)
  if (prototype === Object.prototype || prototype === Array.prototype || prototype === null) return false
  const isOpaque =
    isPromise(data) ||
    types.isMap(data) ||
    types.isSet(data) ||
    types.isNativeError(data) ||
    data instanceof Error
  return isOpaque && typeof (data as { toJSON?: unknown }).toJSON !== 'function'
}

function write({ name, id, retry }: Fields, { isText }: CompiledRule, result: RuleResult): FrameResult {
  if (!result.ok) return withheld('invalid')
  const dataLines = isText ? writeText(result.value) : writeJson(result.value)
  if (dataLines === undefined) return withheld('unserialisable')
  // The space after each colon is not part of the value; without it a value's own leading space would be lost.
  const eventLine = name === 'message' ? '' : `event: ${name}\n`
  const idLine = id === undefined ? '' : `id: ${id}\n`
  const retryLine = retry === undefined ? '' : `retry: ${retry}\n`
  return frameOf(`${eventLine}${idLine}${retryLine}${dataLines}\n`, id, true)
}

function frameOf(text: string, id: string | undefined, isEvent: boolean): FrameResult {
  return { ok: true, frame: { text, bytes: Buffer.byteLength(text), id, isEvent } }
}

function writeText(value: unknown): string | undefined {
  if (value === undefined) return 'data:\n'
  if (typeof value !== 'string') return writeJson(value)
  if (!/[\r\n]/.test(value)) return `data: ${value}\n`
  return value
    .split(/\r\n|\r|\n/)
    .map((line) => `data: ${line}\n`)
    .join('')
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\u0085': '\\u0085',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
}

const BREAKS_LINES = /[\u0085\u2028\u2029]/

function escapeLineBreaks(json: string): string {
  return json.replace(/[\u0085\u2028\u2029]/g, (found) => ESCAPES[found] as string)
}

/** One line, also for readers in Python: JSON escapes CR and LF, and not these three (`str.splitlines` ends a line there). */
function writeJson(value: unknown): string | undefined {
  if (value === undefined) return 'data: null\n'
  if (isEmptyInJson(value)) return undefined
  try {
    const json = JSON.stringify(value) as string | undefined
    if (json === undefined) return undefined
    return BREAKS_LINES.test(json) ? `data: ${escapeLineBreaks(json)}\n` : `data: ${json}\n`
  } catch {
    return undefined
  }
}
