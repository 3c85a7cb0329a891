import { EventEmitter } from 'node:events'
import { EventBuffer, type IterateOptions, Session, type StreamOptions } from 'better-sse'
import { isPromise } from '../checks.js'
import { streamError } from '../errors.js'
import type { FrameResult } from '../events/frame-event.js'
import { frameToPush } from '../events/shared-frame.js'
import { checkOptionNames } from '../option-names.js'
import { callSafely, createFailureWarning } from './call-safely.js'
import { toFetchRequest, toFetchResponse } from './fetch-view.js'
import { Pump } from './pump.js'
import { SESSION_CONTEXT, type SessionContext } from './session-context.js'
import type { StreamSource } from './source.js'

/**
 * A better-sse session whose every way to write goes through the whitelist.
 *
 * It is an instance of better-sse's Session, but does not run its constructor: that makes an EventBuffer, twenty closures and
 * two timers for each session, and writes text that nothing has checked. So all public members are defined here; a test finds
 * those that a new version adds.
 */
class GuardedSession<State> extends EventEmitter {
  /** The id of the last event that was written with one; at first the client's `Last-Event-ID`, if it is trusted. */
  lastId: string
  isConnected: boolean
  state: State
  readonly [SESSION_CONTEXT]: SessionContext
  /** Made when first asked for: few sessions are, and a Request costs more than a session. */
  #request: Request | undefined
  #response: Response | undefined
  #warnOfListener: ((error: unknown) => void) | undefined
  #warnOfOnWithhold: ((error: unknown) => void) | undefined

  constructor(context: SessionContext, state: State, lastId: string) {
    super()
    this.setMaxListeners(Number.POSITIVE_INFINITY)
    const { connection } = context
    this.lastId = lastId
    this.isConnected = !connection.isClosed
    this.state = state
    this[SESSION_CONTEXT] = context
    if (this.isConnected) {
      connection.onClose(() => {
        this.isConnected = false
        this.emit('disconnected')
      })
    }
  }

  /** The request as a fetch Request: method, headers, absolute URL, and a signal that aborts when the response closes. */
  getRequest(): Request {
    if (!this.#request) {
      const { req, res, connection } = this[SESSION_CONTEXT]
      const controller = new AbortController()
      connection.onClose(() => controller.abort())
      this.#request = toFetchRequest(req, res, controller.signal)
    }
    return this.#request
  }

  /** The status and the headers of the response as a fetch Response, without a body. */
  getResponse(): Response {
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
  push(data: unknown, eventName = 'message', eventId?: string): this {
    const { connection, rules, onWithhold } = this[SESSION_CONTEXT]
    if (!connection.isWritable) return this
    const item = { event: eventName, data, id: eventId }
    const framing = frameToPush(rules, item)
    const result: FrameResult = isPromise(framing) ? { ok: false, reason: 'unchecked' } : framing
    if (!result.ok) {
      if (onWithhold) {
        this.#warnOfOnWithhold ??= createFailureWarning('onWithhold')
        callSafely(() => onWithhold(item, result.reason), this.#warnOfOnWithhold)
      }
      return this
    }
    const { text, bytes, id } = result.frame
    if (!connection.pushFrame(text, bytes)) return this
    if (id !== undefined) this.lastId = id
    if (this.listenerCount('push') > 0) {
      this.#warnOfListener ??= createFailureWarning("A listener to a session's 'push'")
      callSafely(() => void this.emit('push', data, eventName, id ?? ''), this.#warnOfListener)
    }
    return this
  }

  /** Streams each item as the data of an event, `'iteration'` unless named; waits for the reader as streamEvents does. */
  async iterate(
    items: Iterable<unknown> | AsyncIterable<unknown>,
    options: IterateOptions = {},
  ): Promise<void> {
    checkOptionNames<IterateOptions>('session.iterate', options, { eventName: true })
    const { eventName = 'iteration' } = options
    await this.#pump(items, (data) => ({ event: eventName, data }))
  }

  /** Streams each chunk as the data of an event, `'stream'` unless named; waits for the reader as streamEvents does. */
  async stream(chunks: AsyncIterable<unknown>, options: StreamOptions = {}): Promise<boolean> {
    checkOptionNames<StreamOptions>('session.stream', options, { eventName: true })
    const { eventName = 'stream' } = options
    await this.#pump(chunks, (chunk) => ({
      event: eventName,
      data: chunk instanceof Uint8Array ? Buffer.from(chunk).toString() : chunk,
    }))
    return true
  }

  /**
   * Writes the comments and `retry` fields of an EventBuffer, without its blank lines: some parsers dispatch an empty event at
   * each.
   *
   * @throws (rejects with) ERR_STREAM_UNCHECKED for anything else, as text cannot be checked against a whitelist.
   */
  async batch(batcher: EventBuffer | ((buffer: EventBuffer) => void | Promise<void>)): Promise<void> {
    const buffer = batcher instanceof EventBuffer ? batcher : new EventBuffer()
    if (typeof batcher === 'function') await batcher(buffer)
    const lines = controlLinesOf(buffer.read())
    if (!lines) {
      throw streamError(
        'ERR_STREAM_UNCHECKED',
        'An EventBuffer cannot be checked against the whitelist; use session.push or streamEvents instead of batch',
      )
    }
    for (const line of lines) this[SESSION_CONTEXT].connection.writeLine(`${line}\n`)
  }

  #pump(source: StreamSource<unknown>, toEvent: (item: unknown) => unknown) {
    const context = this[SESSION_CONTEXT]
    return Pump.run(context, source, {
      end: false,
      strict: false,
      breakOnError: false,
      onWithhold: context.onWithhold,
      onError: undefined,
      signal: undefined,
      toEvent,
      onId: () => {},
    })
  }
}

/** The lines of a text that has nothing but comments, `retry` fields and blank lines (WHATWG HTML 9.2.5). */
function controlLinesOf(text: string): string[] | undefined {
  if (typeof text !== 'string' || text.includes('\r') || !/(^|\n)$/.test(text)) return undefined
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.every((line) => line.startsWith(':') || /^retry: ?\d+$/.test(line)) ? lines : undefined
}

/** In better-sse these are functions of the session, which work without it: `const { push } = session`. */
const BOUND = ['push', 'iterate', 'stream', 'batch', 'getRequest', 'getResponse'] as const

for (const name of BOUND) bindWhenRead(GuardedSession.prototype, name)
// Behind our own members, so that a session is one of better-sse's to `instanceof`.
Object.setPrototypeOf(GuardedSession.prototype, Session.prototype)

/** Binds a method to its object when it is first read there, since most sessions never use most of them. */
function bindWhenRead(prototype: object, name: string): void {
  const method = (prototype as Record<string, (...args: never[]) => unknown>)[name]
  const define = (target: object, value: unknown) =>
    Object.defineProperty(target, name, { value, writable: true, configurable: true, enumerable: true })
  Object.defineProperty(prototype, name, {
    configurable: true,
    get(this: object) {
      const bound = method?.bind(this as never)
      define(this, bound)
      return bound
    },
    set(this: object, value: unknown) {
      define(this, value)
    },
  })
}

/** Makes the session of a connection. */
export function createGuardedSession<State>(
  context: SessionContext,
  state: State,
  lastId: string,
): Session<State> {
  return new GuardedSession(context, state, lastId) as unknown as Session<State>
}
