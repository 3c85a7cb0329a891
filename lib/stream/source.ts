import { isPromise } from '../checks.js'
import { badOption } from '../errors.js'

/**
 * One event as the application gives it: at least one of the four. What is an object with none of them (a payload that was
 * yielded by mistake) is withheld as `invalid`.
 */
export interface StreamEvent {
  /** Its name; an event whose name is not on the whitelist is withheld. Absent or undefined it is `message`. */
  event?: string | undefined
  /** Its payload; the whitelist says what of it is written, as JSON. Undefined is written as null. */
  data?: unknown
  /**
   * Its id, for `Last-Event-ID` (WHATWG HTML 9.2.6): printable ASCII (0x20 to 0x7E) without leading or trailing space, at
   * most 4096 bytes; else the event is withheld as `bad-id`, since a browser could not send the id back. `''` resets the
   * client's. Without an id no `id:` line is written.
   */
  id?: string | undefined
  /**
   * After how many milliseconds the client comes back when the stream breaks, from now on: an integer from 1 to 2147483647.
   * Alone it is one line that needs no rule and does not count as sent. (Node's EventSource and htmx 4 read it only in an
   * event.)
   */
  retry?: number | undefined
}

/** Items to be had one after the other, at once or in time. */
type Items<Item> = Iterable<Item | PromiseLike<Item>> | AsyncIterable<Item>

/**
 * Where events come from: anything iterable, or a function that returns it. The function is given a signal that
 * aborts when nobody wants the events any more: pass it on to whatever the source waits for.
 */
export type StreamSource<Item = StreamEvent> = Items<Item> | ((signal: AbortSignal) => Items<Item>)

/** A source that was started. */
export interface RunningSource {
  readonly iterator: Pick<Iterator<unknown> | AsyncIterator<unknown>, 'next'>
  /** Tells it that nobody wants more. */
  cancel(): Cancelled
}

/** What became of a source that was told so. */
interface Cancelled {
  /** What it answered; a promise, if it takes time to let go. */
  readonly cancelled: unknown
  /** Whether a call into it that is outstanding tells when it has let go. Those of a stream end with the stream. */
  readonly canSettle: boolean
}

/**
 * Starts a source.
 *
 * @throws TypeError if it is not iterable; and what the source itself throws.
 */
export function startSource(source: StreamSource<unknown>, signal: AbortSignal | undefined): RunningSource {
  const items: Partial<Iterable<unknown> & AsyncIterable<unknown>> =
    typeof source === 'function' ? source(signal as AbortSignal) : source
  // An async function is no source, and the promise it returned must not go unheard if it rejects.
  withoutRejection(items)
  // The iterators of a Readable and of a web stream cannot be returned while they wait; the streams can be ended.
  if (items instanceof ReadableStream) {
    const reader = items.getReader()
    const cancel = () => withoutRejection(reader.cancel())
    return {
      iterator: { next: () => reader.read() },
      cancel: () => ({ cancelled: cancel(), canSettle: false }),
    }
  }
  const iterator = items?.[Symbol.asyncIterator]?.() ?? items?.[Symbol.iterator]?.()
  if (iterator && typeof items === 'object') {
    const isStream = isReadable(items)
    const closable = isStream ? items : iterator
    return { iterator, cancel: () => ({ cancelled: cancelSource(closable), canSettle: !isStream }) }
  }
  throw badOption(
    'streamEvents: the source',
    items,
    'an iterable, an async iterable, or a function of the signal that returns one (not a promise of it)',
  )
}

/**
 * Tells a source, or its iterator, that nobody wants more: one that is handed over running (a generator, a
 * Readable, a web stream, `events.on()`) holds on to what it has. Errors raised while cancelling are ignored.
 *
 * @returns what it answered: a promise, if it takes time to let go.
 */
export function cancelSource(source: unknown): unknown {
  if (typeof source !== 'object' || source === null) return undefined
  try {
    // Nothing else is destroyed or cancelled: what has other viewers (a bus) may have methods of these names too.
    if (isReadable(source)) {
      // What it says to that comes as an 'error' event, which kills the process if nobody listens.
      source.on?.('error', () => {})
      source.destroy()
      return undefined
    }
    const isWebStream = source instanceof ReadableStream
    return withoutRejection(isWebStream ? source.cancel() : (source as Partial<Iterator<unknown>>).return?.())
  } catch {
    // A generator that is running right now cannot be returned.
    return undefined
  }
}

/** Ignores the rejection of a value that is a promise, and returns it. */
export function withoutRejection(value: unknown): unknown {
  if (isPromise(value)) value.then(undefined, () => {})
  return value
}

/** Ignores what a source gives after the end, and its rejection. */
export function ignoreRejection(step: unknown): void {
  try {
    const promise = isPromise(step) ? step : (step as { value?: unknown } | null | undefined)?.value
    if (isPromise(promise)) promise.then(ignoreRejection, () => {})
  } catch {
    // It cannot be read.
  }
}

/** Whether it is a node:stream Readable, of Node itself or of the readable-stream package. */
function isReadable(
  source: object,
): source is { destroy(): unknown; on?(event: 'error', listener: () => void): unknown } {
  try {
    const { pipe, destroy } = source as { pipe?: unknown; destroy?: unknown }
    return typeof pipe === 'function' && typeof destroy === 'function'
  } catch {
    return false
  }
}
