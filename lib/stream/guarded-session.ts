import { type IterateOptions, Session, type StreamOptions } from 'better-sse'
import { streamError } from '../errors.js'
import { isPromise } from '../is-promise.js'
import { EventPump } from './event-pump.js'
import { frameEvent } from './frame-event.js'
import { GATE, type Gate } from './gate.js'
import type { StreamSource } from './stream-source.js'

/** What better-sse's session is given besides its connection. */
export interface GuardedSessionOptions<State> {
  state?: State
  trustClientEventId: boolean
  retry: number | null
  keepAlive: number | null
}

/**
 * A better-sse session whose every way to write goes through the whitelist. `batch` and better-sse's own
 * `stream` and `iterate` write raw text, which the connection refuses; the latter two are replaced.
 */
export class GuardedSession<State> extends Session<State> {
  readonly [GATE]: Gate

  constructor(gate: Gate, options: GuardedSessionOptions<State>) {
    super(gate.connection, options)
    this[GATE] = gate
  }

  /**
   * Pushes one event through the whitelist. One that is not listed is withheld and reported to `onWithhold`; to a
   * closed session nothing happens. Nothing waits for a slow reader here: see `maxPushedBytes`.
   *
   * @param eventName default `'message'`.
   * @param eventId written only if given. (A better-sse Channel makes one up for each broadcast that has none.)
   * @throws ERR_STREAM_UNCHECKED if the event's schema is async; use `streamEvents` for those.
   */
  override push = (data: unknown, eventName = 'message', eventId?: string): this => {
    const { connection, projections, onWithhold } = this[GATE]
    if (!connection.writable) return this
    const item = { event: eventName, data, id: eventId }
    const framed = frameEvent(projections, item)
    if (isPromise(framed)) {
      throw streamError(
        'ERR_STREAM_UNCHECKED',
        `The schema of '${eventName}' is async, and push cannot wait for it; stream this event with streamEvents`,
      )
    }
    if (typeof framed === 'string') {
      onWithhold?.(item, framed)
      return this
    }
    if (!connection.pushFrame(framed.text)) return this
    if (framed.id !== undefined) this.lastId = framed.id
    this.emit('push', data, eventName, framed.id ?? '')
    return this
  }

  /** Streams each item as the data of an event, `'iteration'` unless named; waits for the reader as streamEvents does. */
  override iterate = async (
    items: Iterable<unknown> | AsyncIterable<unknown>,
    { eventName = 'iteration' }: IterateOptions = {},
  ): Promise<void> => {
    await this.#pump(items, (data) => ({ event: eventName, data }))
  }

  /** Streams each chunk as the data of an event, `'stream'` unless named; waits for the reader as streamEvents does. */
  override stream = async (
    chunks: AsyncIterable<unknown>,
    { eventName = 'stream' }: StreamOptions = {},
  ): Promise<boolean> => {
    await this.#pump(chunks, (chunk) => ({
      event: eventName,
      data: chunk instanceof Uint8Array ? Buffer.from(chunk).toString() : chunk,
    }))
    return true
  }

  #pump(source: StreamSource<unknown>, toEvent: (item: unknown) => unknown) {
    const gate = this[GATE]
    const { onWithhold } = gate
    return EventPump.run(gate, source, {
      end: false,
      strict: false,
      onWithhold,
      signal: undefined,
      toEvent,
      onId: () => {},
    })
  }
}
