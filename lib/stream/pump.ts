import { AsyncResource } from 'node:async_hooks'
import { isPromise } from '../checks.js'
import { type FrameResult, frameEvent, type WithholdReason } from '../events/frame-event.js'
import { reportAbandonedSource } from '../response-slots.js'
import { addSharedListener } from '../shared-listener.js'
import { type ConnectionEnd, FINAL_RETRY } from '../wire/connection.js'
import { lastTextOf } from './last-event.js'
import type { OnWithhold, SessionContext } from './session-context.js'
import {
  cancelSource,
  ignoreRejection,
  type RunningSource,
  type StreamSource,
  startSource,
} from './source.js'
import { withheldInStrict } from './strict.js'
import { isSliceUsed, yieldToEventLoop } from './time-slice.js'

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
  /** Called with the id of each event that was written with one. */
  onId: (id: string) => void
}

/** What a promise is awaited for: the source's next step, an item that it gave, its frame, or what `onWithhold` answered. */
type Awaited = 'step' | 'item' | 'frame' | 'withheld'

/** Why a source's signal aborts. One for all: making one takes a stack trace, which costs as much as several events. */
const NOBODY_WANTS_MORE = new DOMException('Nobody wants more events', 'AbortError')

/**
 * What callbacks hold on to instead of the pump: emptied when it stops, so that a promise which never settles (a generator
 * that is blocked) holds neither the pump nor its session and socket.
 */
interface PumpRef {
  pump: Pump | undefined
}

/**
 * Takes events from one source to one session, as fast as the client reads, until either has had enough.
 *
 * It drives the iterator by hand: `for await` cannot leave one that is blocked. What is here already is not awaited, so that
 * events which are available in one tick leave in one write. After each await, and after each call of the application's code,
 * it asks whether the stream has stopped meanwhile; what arrives then is ignored.
 */
export class Pump {
  readonly #context: SessionContext
  readonly #options: PumpOptions
  readonly #resolve: (result: StreamResult) => void
  readonly #reject: (error: unknown) => void
  /** The caller's asynchronous context (`AsyncLocalStorage`). What resumes or ends the stream may come from another user's. */
  readonly #async = new AsyncResource('express-sse-guard.stream')
  readonly #ref: PumpRef = { pump: this }
  readonly #onFulfilled: (value: unknown) => void
  readonly #onRejected: (error: unknown) => void
  readonly #onResumed: () => void
  /** Take back the listeners of this pump. */
  readonly #forget: (() => void)[] = []
  /** Only for a source that takes a signal: making and aborting one costs as much as several events. */
  #controller: AbortController | undefined
  #source: RunningSource | undefined
  /** What the promise that is awaited now is for. */
  #awaited: Awaited = 'step'
  /** What the source has answered a call with, while it is awaited. After the end it says whether the source has settled. */
  #outstanding: PromiseLike<unknown> | undefined
  /** The event whose frame, or withholding, is awaited. */
  #event: unknown
  /** Why the event was withheld whose `onWithhold` is awaited. */
  #reason: WithholdReason = 'unlisted'
  /** Whether the source is being called right now, and so cannot be returned. */
  #isPulling = false
  /** Whether the last frame filled a write, after which the event loop has its turn. */
  #hasFilledWrite = false
  #isStopped = false
  #sent = 0
  #withheld = 0

  private constructor(
    context: SessionContext,
    options: PumpOptions,
    resolve: (result: StreamResult) => void,
    reject: (error: unknown) => void,
  ) {
    const ref = this.#ref
    this.#context = context
    this.#options = options
    this.#resolve = resolve
    this.#reject = reject
    this.#onFulfilled = (value) => (ref.pump ? ref.pump.#take(value) : ignoreRejection(value))
    this.#onRejected = (error) => {
      if (ref.pump) ref.pump.#fail(error)
    }
    this.#onResumed = () => {
      if (ref.pump) ref.pump.#resume()
    }
  }

  /** Pumps a source until the end. */
  static run(
    context: SessionContext,
    source: StreamSource<unknown>,
    options: PumpOptions,
  ): Promise<StreamResult> {
    return new Promise((resolve, reject) => new Pump(context, options, resolve, reject).#start(source))
  }

  #start(source: StreamSource<unknown>): void {
    const { connection, res } = this.#context
    const { signal } = this.#options
    if (connection.endedBy || signal?.aborted) {
      reportAbandonedSource(res, [cancelSource(source)].filter(isPromise))
      return connection.endedBy ? this.#stopEnded() : this.#stopAborted()
    }
    this.#forget.push(connection.onEnd(() => this.#stopEnded()))
    if (signal) this.#forget.push(addSharedListener(signal, () => this.#stopAborted()))
    if (typeof source === 'function') this.#controller = new AbortController()
    try {
      this.#source = startSource(source, this.#controller?.signal)
    } catch (error) {
      return this.#fail(error)
    }
    // Its start may have ended the stream.
    if (this.#isStopped) this.#cancelSource()
    else this.#pull()
  }

  /** Takes from the source until something must be awaited. */
  #pull(): void {
    const { connection } = this.#context
    try {
      while (!this.#isStopped) {
        if (!connection.isWritable) return this.#stopEnded()
        if (connection.needsDrain) return connection.onDrain(this.#onResumed)
        // Also after a drain, which a fast reader's socket reports before the event loop had its turn.
        if (this.#hasFilledWrite || isSliceUsed()) {
          this.#hasFilledWrite = false
          return yieldToEventLoop(this.#onResumed)
        }
        const step = this.#next()
        if (this.#isStopped) {
          // It ended the stream itself, and could not be returned while it was running.
          this.#settleSource(step)
          return ignoreRejection(step)
        }
        if (isPromise(step)) return this.#awaitSource('step', step)
        if (!this.#takeStep(step)) return
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  #next(): unknown {
    this.#isPulling = true
    try {
      return this.#source?.iterator.next()
    } finally {
      this.#isPulling = false
    }
  }

  /** From another context than the caller's: a socket that has drained, or the turn of another stream. */
  #resume(): void {
    this.#async.runInAsyncScope(() => this.#pull())
  }

  #await(awaited: Awaited, promise: PromiseLike<unknown>): void {
    this.#awaited = awaited
    // Through a promise of our own: somebody else's may call back at once, twice or not in order.
    Promise.resolve(promise).then(this.#onFulfilled, this.#onRejected)
  }

  #awaitSource(awaited: Awaited, promise: PromiseLike<unknown>): void {
    this.#outstanding = promise
    this.#await(awaited, promise)
  }

  /** What was awaited is here. */
  #take(value: unknown): void {
    this.#outstanding = undefined
    try {
      const goesOn =
        this.#awaited === 'step'
          ? this.#takeStep(value)
          : this.#awaited === 'item'
            ? this.#takeItem(value)
            : this.#awaited === 'frame'
              ? this.#takeFrame(value as FrameResult)
              : this.#finishWithhold()
      if (goesOn) this.#pull()
    } catch (error) {
      this.#fail(error)
    }
  }

  /** @returns whether to go on at once; false too if the stream has stopped. So do the next three. */
  #takeStep(step: unknown): boolean {
    if (typeof step !== 'object' || step === null) {
      throw new TypeError(`The source's next() gave ${String(step)}; give { value, done }`)
    }
    const { done, value } = step as IteratorResult<unknown>
    if (done) {
      ignoreRejection(step)
      this.#finish()
      return false
    }
    if (!isPromise(value)) return this.#takeItem(value)
    this.#awaitSource('item', value)
    return false
  }

  #takeItem(item: unknown): boolean {
    const { toEvent } = this.#options
    const event = toEvent ? toEvent(item) : item
    this.#event = event
    const result = frameEvent(this.#context.rules, event)
    if (!isPromise(result)) return this.#takeFrame(result)
    this.#await('frame', result)
    return false
  }

  #takeFrame(result: FrameResult): boolean {
    // A schema or a getter of the application may have ended the stream.
    if (this.#isStopped) return false
    const { connection } = this.#context
    if (result.ok) {
      if (!connection.isWritable) return true
      const { text, bytes, id, isEvent } = result.frame
      this.#hasFilledWrite = connection.writeFrame(text, bytes)
      if (isEvent) this.#sent += 1
      if (id !== undefined) this.#options.onId(id)
      return true
    }
    this.#reason = result.reason
    const told = this.#withhold(this.#event, result.reason)
    if (!isPromise(told)) return this.#finishWithhold()
    this.#await('withheld', told)
    return false
  }

  #finishWithhold(): boolean {
    if (this.#options.strict) throw withheldInStrict(this.#event, this.#reason)
    return !this.#isStopped
  }

  #withhold(event: unknown, reason: WithholdReason): unknown {
    this.#withheld += 1
    return this.#options.onWithhold?.(event, reason)
  }

  /** The source ended. */
  #finish(): void {
    const { connection } = this.#context
    this.#stop()
    if (this.#options.end === false) return this.#settle('source')
    this.#endResponse(() =>
      this.#settle(connection.isFinished ? 'source' : (connection.endedBy ?? 'aborted')),
    )
  }

  /** The response has closed, or has been ended by somebody else. */
  #stopEnded(): void {
    const { connection } = this.#context
    this.#stop()
    this.#cancelSource()
    const failure = connection.takeFailure()
    if (failure) connection.onClose(() => this.#reject(failure.error))
    else this.#settle(connection.endedBy ?? 'aborted')
  }

  #stopAborted(): void {
    this.#stop()
    this.#cancelSource()
    if (this.#options.end === false) return this.#settle('aborted')
    this.#endResponse(() => this.#settle('aborted'))
  }

  #fail(error: unknown): void {
    if (this.#isStopped) return
    this.#stop()
    this.#cancelSource()
    const end = (lastText: string) => {
      // Not before the close: Express destroys the socket of an error it is given, and with it what was already sent.
      this.#endResponse(() => this.#reject(error), { lastText, isFailure: true })
    }
    const { onError } = this.#options
    const onWithhold = (event: unknown, reason: WithholdReason) => this.#withhold(event, reason)
    const lastText = onError ? lastTextOf(this.#context, () => onError(error), onWithhold) : ''
    if (isPromise(lastText)) lastText.then(end)
    else end(lastText)
  }

  #stop(): void {
    this.#isStopped = true
    this.#ref.pump = undefined
    for (const forget of this.#forget) forget()
  }

  /** Tells the source that nobody wants more: by its signal, and by `return()` unless it is running. */
  #cancelSource(): void {
    this.#async.runInAsyncScope(() => {
      this.#controller?.abort(NOBODY_WANTS_MORE)
      if (!this.#isPulling) this.#settleSource(this.#outstanding)
    })
  }

  /** @param outstanding what the last call into the source has answered, if that has not settled yet. */
  #settleSource(outstanding: unknown): void {
    const source = this.#source
    this.#source = undefined
    if (!source) return
    const { canSettle, cancelled } = source.cancel()
    const calls = canSettle ? [outstanding, cancelled] : [cancelled]
    reportAbandonedSource(this.#context.res, calls.filter(isPromise))
  }

  #endResponse(then: () => void, { lastText = '', isFailure = false } = {}): void {
    const { connection } = this.#context
    const { end, breakOnError } = this.#options
    const text = end === 'final' ? lastText + FINAL_RETRY : lastText
    let whenClosed = then
    try {
      if (isFailure && breakOnError) connection.breakOff(text)
      else connection.end(text)
      const failure = connection.takeFailure()
      if (failure && !isFailure) whenClosed = () => this.#reject(failure.error)
    } catch (error) {
      whenClosed = () => this.#reject(error)
    }
    connection.onClose(whenClosed)
  }

  #settle(endedBy: StreamResult['endedBy']): void {
    this.#resolve({ sent: this.#sent, withheld: this.#withheld, endedBy })
  }
}
