import { badOption } from '../errors.js'
import { isPromise } from '../is-promise.js'

/** One event as the application gives it. */
export interface StreamEvent {
  /** Its name; an event whose name is not on the whitelist is withheld. */
  event: string
  /** Its payload; the whitelist says what of it is written. */
  data?: unknown
  /** Its id, for `Last-Event-ID`. `''` resets the client's. Without one no id is written. */
  id?: string | undefined
}

/** Items to be had one after the other, at once or in time. */
type Items<Item> = Iterable<Item | PromiseLike<Item>> | AsyncIterable<Item>

/**
 * Where events come from: anything iterable, or a function that returns it. The function is given a signal that
 * aborts when nobody wants the events any more: pass it on to whatever the source waits for.
 */
export type StreamSource<Item = StreamEvent> = Items<Item> | ((signal: AbortSignal) => Items<Item>)

/** An iterator of either kind. */
export type ItemIterator = Iterator<unknown> | AsyncIterator<unknown>

/**
 * Starts a source.
 *
 * @throws TypeError if it is not iterable; and what the source itself throws.
 */
export function startSource(source: StreamSource<unknown>, controller: AbortController): ItemIterator {
  const items: Partial<Iterable<unknown> & AsyncIterable<unknown>> =
    typeof source === 'function' ? source(controller.signal) : source
  // An async function is no source, and the promise it returned must not go unheard if it rejects.
  if (isPromise(items)) items.then(undefined, () => {})
  const iterator = items?.[Symbol.asyncIterator]?.() ?? items?.[Symbol.iterator]?.()
  if (iterator && typeof items === 'object') return iterator
  throw badOption(
    'streamEvents: the source',
    items,
    'an iterable, an async iterable, or a function of the signal that returns one (not a promise of it)',
  )
}

/**
 * Tells a source, or its iterator, that nobody wants more: one that is handed over running (a generator, a
 * Readable, `events.on()`) holds on to what it has. What it says to that is nobody's business any more.
 */
export function discardSource(source: unknown): void {
  if (typeof source !== 'object' || source === null) return
  try {
    const { return: giveBack, destroy } = source as { return?: unknown; destroy?: unknown }
    const close = typeof giveBack === 'function' ? giveBack : destroy
    if (typeof close !== 'function') return
    const closed: unknown = close.call(source)
    if (isPromise(closed)) closed.then(undefined, () => {})
  } catch {
    // A generator that is running right now cannot be returned.
  }
}
