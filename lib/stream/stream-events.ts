import type { Session } from 'better-sse'
import { badOption } from '../errors.js'
import { checkOptionNames } from '../option-names.js'
import { Pump, type StreamResult } from './pump.js'
import { checkOnWithhold, type OnWithhold, sessionContextOf } from './session-context.js'
import { cancelSource, type StreamEvent, type StreamSource } from './source.js'

/** Options of {@link streamEvents}. */
export interface StreamEventsOptions {
  /**
   * What becomes of the response when the source ends: `true` ends it, so that the slot lives as long as the
   * stream; `false` keeps it open for more; `'final'` ends it after `retry: 2147483647`, without which an
   * EventSource comes back seconds after a clean end and runs a finished job again; it is written after an error
   * or an abort too, as a job that failed must not be repeated for ever either. An error ends the response also
   * with `false`. Default: `true`.
   */
  end?: boolean | 'final' | undefined
  /** Rejects with `ERR_STREAM_WITHHELD` at the first withheld event: for test suites. Default: `false`. */
  strict?: boolean | undefined
  /** Called for each withheld event. A throw rejects `streamEvents`. Default: that of `openSession`, or none. */
  onWithhold?: OnWithhold | undefined
  /** Aborting it ends the stream from outside: `endedBy: 'aborted'`. Default: none. */
  signal?: AbortSignal | undefined
  /**
   * Called with what the source threw while the viewer is still there. The event that it returns is the last one of
   * the stream, and goes through the whitelist as every event: it tells the viewer, who never sees the error itself. With
   * undefined there is none. A throw of `onError` is warned of, and `streamEvents` rejects with the first error all the same.
   *
   * @default none
   */
  onError?: ((error: unknown) => StreamEvent | undefined) | undefined
  /**
   * Whether an error breaks the response off instead of finishing it, so that a fetch client sees a failure and not a short
   * answer: on HTTP/1.1 by a malformed chunk and the end of the connection, on HTTP/2 by RST_STREAM. What was written before
   * arrives. An EventSource comes back from both.
   *
   * @default false
   */
  breakOnError?: boolean | undefined
}

/**
 * Streams a source's events to a session: those on its whitelist, as fast as its client reads.
 *
 * The source is asked for its next event only while there is room, and the event loop gets its turn at least
 * every 10 ms or every high-water mark. When the stream ends otherwise than by its source, the source's signal
 * aborts and its `return()` is called at once, and the promise settles even if the source ignores both; what it
 * throws from then on is dropped. Prefer the function form for a source that waits for something: a generator
 * that is blocked in an `await` cannot be freed from outside.
 *
 * @param session one from `openSession`. If its client has left, or sent a HEAD, the source is not started.
 * @param source an iterable, an async iterable, or a function of an AbortSignal that returns either.
 * @returns how it went, once the response is over (with `end: false`: once the source is).
 * @throws (rejects with) whatever the source or `onWithhold` threw. The viewer never sees it. It comes once the
 *   response has closed, which takes a reader that has stopped reading up to `stallTimeoutMs`.
 * @throws ERR_STREAM_NO_WHITELIST for a session that is not from `openSession`; ERR_STREAM_WITHHELD in `strict`;
 *   TypeError for a source or an option that cannot work.
 */
export async function streamEvents<State>(
  session: Session<State>,
  source: StreamSource,
  options: StreamEventsOptions = {},
): Promise<StreamResult> {
  const context = sessionContextOf(session)
  try {
    checkStreamEventsOptions(options)
  } catch (error) {
    cancelSource(source)
    context.connection.end()
    throw error
  }
  const { end = true, strict = false, breakOnError = false } = options
  const { onWithhold = context.onWithhold, signal, onError } = options
  const onId = (id: string) => (session.lastId = id)
  return Pump.run(context, source, { end, strict, breakOnError, onWithhold, signal, onError, onId })
}

const OPTIONS = {
  end: true,
  strict: true,
  onWithhold: true,
  signal: true,
  onError: true,
  breakOnError: true,
} as const

function checkStreamEventsOptions(options: StreamEventsOptions): void {
  checkOptionNames<StreamEventsOptions>('streamEvents', options, OPTIONS)
  const { end, strict, onWithhold, signal, onError, breakOnError } = options
  if (![undefined, true, false, 'final'].includes(end)) {
    throw badOption('streamEvents: end', end, "true, false or 'final'")
  }
  for (const [name, value] of Object.entries({ strict, breakOnError })) {
    if (value !== undefined && typeof value !== 'boolean') {
      throw badOption(`streamEvents: ${name}`, value, 'true or false')
    }
  }
  if (onError !== undefined && typeof onError !== 'function') {
    throw badOption(
      'streamEvents: onError',
      onError,
      'a function (error) => event | undefined, or leave it out',
    )
  }
  checkOnWithhold('streamEvents', onWithhold)
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw badOption('streamEvents: signal', signal, 'an AbortSignal, or leave it out')
  }
}
