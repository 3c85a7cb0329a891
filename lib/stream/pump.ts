import { AsyncResource } from 'node:async_hooks'
import { isPromise } from '../checks.js'
import { messageOf, streamError } from '../errors.js'
import { type FrameResult, frameEvent, type WithholdReason } from '../events/frame-event.js'
import { reportAbandonedSource } from '../response-slots.js'
import { addSharedListener } from '../shared-listener.js'
import { warn } from '../warnings.js'
import type { ConnectionEnd } from '../wire/connection.js'
import { callSafely, createFailureWarning } from './call-safely.js'
import type { OnWithhold, SessionContext } from './session-context.js'
import { cancelSource, type RunningSource, type StreamSource, startSource } from './source.js'
import { isSliceUsed, yieldToEventLoop } from './time-slice.js'

/**
 * The longest that every client can wait (the largest 32-bit timer, 24.8 days): an event stream has no word for
 * "do not come back" (WHATWG HTML 9.2.5).
 */
const DO_NOT_COME_BACK = 'retry: 2147483647\n'

/** How a stream went. */
export interface StreamResult {
  /** How many events were written. */
  sent: number
  /** How many events were withheld. */
  withheld: number
  /**
   * - `'source'`: the source ended, and all of it was handed to the operating system (with `end: false`: written);
   * - `'client'`: the client left, or it was a HEAD;
   * - `'aborted'`: the application ended the response, or the `signal` option aborted;
   * - `'stalled'`: the socket accepted no byte for `stallTimeoutMs`;
   * - `'evicted'`: its slot went to another stream of the same user;
   * - `'kicked'`: all streams of its user were ended.
   */
  endedBy: 'source' | ConnectionEnd
}

export interface PumpOptions {
  end: boolean | 'final'
  strict: boolean
  breakOnError: boolean
  onWithhold: OnWithhold | undefined
  onError: ((error: unknown) => unknown) | undefined
  signal: AbortSignal | undefined
  /** Makes an event of an item that is none yet. */
  toEvent?: (item: unknown) => unknown
  /** Told of the id of each event that was written with one. */
  onId: (id: string) => void
}

/**
 * Takes events from one source to one gate, as fast as the client reads, until either has had enough.
 *
 * It drives the iterator by hand: `for await` cannot leave one that is blocked. After each `await`, and after each call
 * of the application's code, it asks whether the stream has stopped meanwhile; what arrives then is dropped.
 */
export class EventPump {
  readonly #gate: SessionContext
  readonly #options: PumpOptions
  readonly #controller = new AbortController()
  readonly #forget: (() => void)[] = []
  readonly #resolve: (result: StreamResult) => void
  readonly #reject: (error: unknown) => void
  /** The caller's asynchronous context (`AsyncLocalStorage`). Whatever ends the stream may come from another user's. */
  readonly #context = new AsyncResource('express-sse-guard.stream')
  readonly #waiter: Waiter = {}
  #source: RunningSource | undefined
  /** What the source has answered a call with, while it is awaited. After the end it says whether the source has settled. */
  #outstanding: PromiseLike<unknown> | undefined
  #isPulling = false
  #stopped = false
  #sent = 0
  #withheld = 0

  private constructor(
    gate: SessionContext,
    options: PumpOptions,
    resolve: (result: StreamResult) => void,
    reject: (error: unknown) => void,
  ) {
    this.#gate = gate
    this.#options = options
    this.#resolve = resolve
    this.#reject = reject
  }

  /** Pumps a source until the end. */
  static run(
    gate: SessionContext,
    source: StreamSource<unknown>,
    options: PumpOptions,
  ): Promise<StreamResult> {
    return new Promise((resolve, reject) => new EventPump(gate, options, resolve, reject).#start(source))
  }

  #start(source: StreamSource<unknown>): void {
    const { connection } = this.#gate
    const { signal } = this.#options
    if (connection.endedBy || signal?.aborted) {
      reportAbandonedSource(this.#gate.res, [cancelSource(source)].filter(isPromise))
      return connection.endedBy ? this.#stopOver() : this.#stopAborted()
    }
    this.#forget.push(connection.onEnd(() => this.#stopOver()))
    if (signal) this.#forget.push(addSharedListener(signal, () => this.#stopAborted()))
    this.#pump(source).catch((error) => this.#fail(error))
  }

  /** What is here already is not awaited, so that events which are available in one tick leave in one write. */
  async #pump(source: StreamSource<unknown>): Promise<void> {
    const { connection, rules } = this.#gate
    const { toEvent } = this.#options
    const running = startSource(source, this.#controller)
    this.#source = running
    if (this.#stopped) this.#abandonSource()
    let hasFilledWrite = false
    while (!this.#stopped) {
      if (connection.endedBy) return this.#stopOver()
      if (connection.needsDrain) {
        await this.#arrival(connection.drain())
        continue
      }
      // Also after a drain, which a fast reader's socket reports before the event loop had its turn.
      if (hasFilledWrite || isSliceUsed()) {
        await yieldToEventLoop()
        hasFilledWrite = false
        continue
      }
      this.#isPulling = true
      const next: unknown = running.iterator.next()
      this.#isPulling = false
      if (this.#stopped) {
        // It ended the stream itself, and could not be returned while it was running.
        this.#cancelSource(next)
        return ignoreRejection(next)
      }
      const step = isPromise(next) ? await this.#sourceArrival(next) : next
      if (this.#stopped) return ignoreRejection(step)
      if (typeof step !== 'object' || step === null) {
        throw new TypeError(`The source's next() gave ${String(step)}; give { value, done }`)
      }
      const { done, value } = step as IteratorResult<unknown>
      if (done) {
        ignoreRejection(step)
        return this.#finish()
      }
      const item = isPromise(value) ? await this.#sourceArrival(value) : value
      if (this.#stopped) return
      const event = toEvent ? toEvent(item) : item
      const framing = frameEvent(rules, event)
      const result = isPromise(framing) ? await this.#arrival(framing) : framing
      // A schema or a getter of the application may have ended it.
      if (this.#stopped || !result) return
      if (!result.ok) {
        const told = this.#withhold(event, result.reason)
        if (isPromise(told)) await this.#arrival(told)
        if (this.#options.strict) throw withheldInStrict(event, result.reason)
      } else if (connection.writable) {
        const { text, id, isEvent } = result.frame
        hasFilledWrite = connection.writeFrame(text)
        if (isEvent) this.#sent += 1
        if (id !== undefined) this.#options.onId(id)
      }
    }
  }

  #withhold(event: unknown, why: WithholdReason): unknown {
    this.#withheld += 1
    return this.#options.onWithhold?.(event, why)
  }

  /** The source ended. */
  #finish(): void {
    const { connection } = this.#gate
    this.#stop()
    if (this.#options.end === false) return this.#settle('source')
    this.#endResponse(() => this.#settle(connection.finished ? 'source' : (connection.endedBy ?? 'aborted')))
  }

  /** The response is over, or has been ended by somebody else. */
  #stopOver(): void {
    const { connection } = this.#gate
    this.#stop()
    this.#abandonSource()
    const failure = connection.takeFailure()
    if (failure) connection.onOver(() => this.#reject(failure.error))
    else this.#settle(connection.endedBy ?? 'aborted')
  }

  #stopAborted(): void {
    this.#stop()
    this.#abandonSource()
    if (this.#options.end === false) return this.#settle('aborted')
    this.#endResponse(() => this.#settle('aborted'))
  }

  #fail(error: unknown): void {
    if (this.#stopped) return
    this.#stop()
    this.#abandonSource()
    const end = (lastText: string) => {
      // Not before: Express destroys the socket of an error it is given, and with it what was already sent.
      this.#endResponse(() => this.#reject(error), { lastText, isFailure: true })
    }
    const lastText = this.#lastTextOf(error)
    if (isPromise(lastText)) lastText.then(end)
    else end(lastText)
  }

  /** What `onError` wants to tell the viewer of an error; nothing if its event is withheld. Never throws or rejects. */
  #lastTextOf(error: unknown): string | Promise<string> {
    const { onError } = this.#options
    const { connection, rules } = this.#gate
    if (!onError || !connection.writable) return ''
    let event: unknown
    try {
      event = onError(error)
    } catch (thrown) {
      warn(`onError of streamEvents threw: ${messageOf(thrown)}. The viewer is told nothing.`)
    }
    if (event === undefined) return ''
    const toText = (result: FrameResult | undefined) => {
      if (result?.ok) return result.frame.text
      if (result) callSafely(() => this.#withhold(event, result.reason), createFailureWarning('onWithhold'))
      return ''
    }
    const framing = frameEvent(rules, event)
    if (!isPromise(framing)) return toText(framing)
    // An async schema that never answers must not keep the response of a client that has left.
    return new Promise<FrameResult | undefined>((resolve) => {
      framing.then(resolve)
      connection.onEnd(() => resolve(undefined))
    }).then(toText)
  }

  #stop(): void {
    this.#stopped = true
    for (const forget of this.#forget) forget()
    this.#waiter.resolve?.(undefined)
    this.#waiter.resolve = undefined
    this.#waiter.reject = undefined
  }

  #abandonSource(): void {
    this.#context.runInAsyncScope(() => {
      this.#controller.abort()
      if (!this.#isPulling) this.#cancelSource(this.#outstanding)
    })
  }

  /** @param outstanding what the last call into the source has answered, if that has not settled yet. */
  #cancelSource(outstanding: unknown): void {
    const source = this.#source
    this.#source = undefined
    if (!source) return
    const { canSettle, cancelled } = source.discard()
    const calls = canSettle ? [outstanding, cancelled] : [cancelled]
    reportAbandonedSource(this.#gate.res, calls.filter(isPromise))
  }

  /** As {@link #arrival}, for what the source has answered. */
  async #sourceArrival<Value>(value: PromiseLike<Value>): Promise<Value | undefined> {
    this.#outstanding = value
    const arrived = await this.#arrival(value)
    this.#outstanding = undefined
    return arrived
  }

  /** Waits for a promise, but no longer than the stream lasts: then it is undefined. */
  #arrival<Value>(value: PromiseLike<Value>): Promise<Value | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiter.resolve = resolve as (value: unknown) => void
      this.#waiter.reject = reject
      settleLater(this.#waiter, value)
    })
  }

  #endResponse(then: () => void, { lastText = '', isFailure = false } = {}): void {
    const { connection } = this.#gate
    const { end, breakOnError } = this.#options
    const text = end === 'final' ? lastText + DO_NOT_COME_BACK : lastText
    let whenOver = then
    try {
      if (isFailure && breakOnError) connection.breakOff(text)
      else connection.end(text)
      const failure = connection.takeFailure()
      if (failure && !isFailure) whenOver = () => this.#reject(failure.error)
    } catch (error) {
      whenOver = () => this.#reject(error)
    }
    connection.onOver(whenOver)
  }

  #settle(endedBy: StreamResult['endedBy']): void {
    this.#resolve({ sent: this.#sent, withheld: this.#withheld, endedBy })
  }
}

/** Who waits for a promise of the application's. */
interface Waiter {
  resolve?: ((value: unknown) => void) | undefined
  reject?: ((error: unknown) => void) | undefined
}

/**
 * Tells the waiter what comes of a promise. Outside the class, so that a promise which never settles (a generator that
 * is blocked for ever) holds on to an empty waiter, and not to the pump, its session and its socket.
 */
function settleLater(waiter: Waiter, value: PromiseLike<unknown>): void {
  // Through a promise of our own: somebody else's may call back at once, twice or not in order.
  Promise.resolve(value).then(
    (arrived) => (waiter.resolve ? waiter.resolve(arrived) : ignoreRejection(arrived)),
    (error) => waiter.reject?.(error),
  )
}

/** What a source gives after the end is nobody's, and neither is its rejection. */
function ignoreRejection(step: unknown): void {
  try {
    const promise = isPromise(step) ? step : (step as { value?: unknown } | null | undefined)?.value
    if (isPromise(promise)) promise.then(ignoreRejection, () => {})
  } catch {
    // It cannot be read.
  }
}

function withheldInStrict(item: unknown, why: WithholdReason) {
  return streamError('ERR_STREAM_WITHHELD', `${nameOf(item)} was withheld (${why}); ${REMEDIES[why]}`)
}

const REMEDIES: Readonly<Record<WithholdReason, string>> = {
  unlisted: 'list it in defineEvents, or do not stream it to this session',
  invalid: 'give { event, data } with the name as a string, and data that fits its rule in defineEvents',
  'bad-id': 'give an id that is a string of printable ASCII, such as String(row.id), or none',
  unserialisable:
    'give data that JSON.stringify can write: no BigInt, cycle, function, Promise, Map, Set or Error',
  unchecked: 'use streamEvents, which waits for an async schema',
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
