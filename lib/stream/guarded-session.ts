import { type IterateOptions, Session, type StreamOptions } from 'better-sse'
import { isPromise } from '../checks.js'
import { type FrameResult, frameEvent } from '../events/frame-event.js'
import { callSafely, createFailureWarning } from './call-safely.js'
import { toFetchRequest, toFetchResponse } from './fetch-view.js'
import { EventPump } from './pump.js'
import { SESSION_CONTEXT, type SessionContext } from './session-context.js'
import type { StreamSource } from './source.js'

/** What better-sse's session is given besides its connection. */
export interface GuardedSessionOptions<State> {
  state?: State
  trustClientEventId: boolean
  keepAlive: number | null
}

/**
 * A better-sse session whose every way to write goes through the whitelist. `batch` and better-sse's own
 * `stream` and `iterate` write raw text, which the connection refuses; the latter two are replaced.
 */
export class GuardedSession<State> extends Session<State> {
  readonly [SESSION_CONTEXT]: SessionContext
  /** Made when first asked for, as few sessions are asked and a Request costs more than a session. */
  #request: Request | undefined
  #response: Response | undefined
  readonly #warnOfListener = createFailureWarning("A listener to a session's 'push'")
  readonly #warnOfOnWithhold = createFailureWarning('onWithhold')

  constructor(gate: SessionContext, options: GuardedSessionOptions<State>) {
    // The connection writes `retry` itself, as one line.
    super(gate.connection, { ...options, retry: null })
    this[SESSION_CONTEXT] = gate
  }

  /** The request as a fetch Request: method, headers, absolute URL, and a signal that aborts when the response closes. */
  override getRequest = (): Request => {
    if (!this.#request) {
      const { req, res, connection } = this[SESSION_CONTEXT]
      const controller = new AbortController()
      connection.onOver(() => controller.abort())
      this.#request = toFetchRequest(req, res, controller.signal)
    }
    return this.#request
  }

  /** The status and the headers of the response as a fetch Response, without a body. */
  override getResponse = (): Response => {
    this.#response ??= toFetchResponse(this[SESSION_CONTEXT].res)
    return this.#response
  }

  /**
   * Pushes one event through the whitelist. One that is not let through is withheld and reported to `onWithhold`; an async
   * schema cannot be waited for, so its events are withheld as `unchecked`. To a closed session nothing happens. Nothing
   * waits for a slow reader here: see `maxPushedBytes`.
   *
   * Never throws, so that a Channel reaches all of its sessions: what `onWithhold` or a listener to 'push' throws is warned
   * of with `process.emitWarning`, once per session.
   *
   * @param eventName default `'message'`.
   * @param eventId written only if given. (A better-sse Channel makes one up for each broadcast that has none.)
   */
  override push = (data: unknown, eventName = 'message', eventId?: string): this => {
    const { connection, rules, onWithhold } = this[SESSION_CONTEXT]
    if (!connection.writable) return this
    const item = { event: eventName, data, id: eventId }
    const framing = frameEvent(rules, item)
    const result: FrameResult = isPromise(framing) ? { ok: false, reason: 'unchecked' } : framing
    if (!result.ok) {
      callSafely(() => onWithhold?.(item, result.reason), this.#warnOfOnWithhold)
      return this
    }
    const { text, id } = result.frame
    if (!connection.pushFrame(text)) return this
    if (id !== undefined) this.lastId = id
    callSafely(() => void this.emit('push', data, eventName, id ?? ''), this.#warnOfListener)
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
    const gate = this[SESSION_CONTEXT]
    const { onWithhold } = gate
    return EventPump.run(gate, source, {
      end: false,
      strict: false,
      breakOnError: false,
      onWithhold,
      onError: undefined,
      signal: undefined,
      toEvent,
      onId: () => {},
    })
  }
}
