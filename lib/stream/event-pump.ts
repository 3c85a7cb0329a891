import { streamError } from '../errors.js'
import { isPromise } from '../is-promise.js'
import type { ConnectionEnd } from './connection.js'
import { type Framed, frameEvent, type WithholdReason } from './frame-event.js'
import type { Gate, OnWithhold } from './gate.js'
import { type ItemIterator, type StreamSource, startSource } from './stream-source.js'

/** How long events may be taken from a source before the event loop gets its turn. */
const TURN_MS = 10

/**
 * The longest that every client can wait (the largest 32-bit timer, 24.8 days): an event stream has no word for
 * "do not come back" (WHATWG HTML 9.2.5).
 */
const DO_NOT_COME_BACK = 'retry: 2147483647\n\n'

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
   * - `'stalled'`: the socket accepted no byte for `stallTimeoutMs`.
   */
  endedBy: 'source' | ConnectionEnd
}

export interface PumpOptions {
  end: boolean | 'final'
  strict: boolean
  onWithhold: OnWithhold | undefined
  signal: AbortSignal | undefined
  /** Makes an event of an item that is none yet. */
  toEvent?: (item: unknown) => unknown
  /** Told of the id of each event that was written with one. */
  onId: (id: string) => void
}

/**
 * Takes events from one source to one gate, as fast as the client reads, until either has had enough.
 *
 * It drives the iterator by hand: `for await` cannot leave an iterator that is blocked, and a `Promise.race`
 * against the end of the stream would keep a reaction for every event. Whatever arrives after the end is
 * dropped.
 */
export class EventPump {
  readonly #gate: Gate
  readonly #options: PumpOptions
  readonly #controller = new AbortController()
  readonly #forget: (() => void)[] = []
  readonly #resolve: (result: StreamResult) => void
  readonly #reject: (error: unknown) => void
  #iterator: ItemIterator | undefined
  #stopped = false
  #sent = 0
  #withheld = 0
  #turnBeganAt = performance.now()
  #turnIsFull = false

  private constructor(
    gate: Gate,
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
  static run(gate: Gate, source: StreamSource<unknown>, options: PumpOptions): Promise<StreamResult> {
    return new Promise((resolve, reject) => new EventPump(gate, options, resolve, reject).#start(source))
  }

  #start(source: StreamSource<unknown>): void {
    const { connection } = this.#gate
    const { signal } = this.#options
    if (connection.endedBy) return this.#stopOver()
    if (signal?.aborted) return this.#stopAborted()
    this.#forget.push(connection.onOver(() => this.#stopOver()))
    if (signal) {
      const onAbort = () => this.#stopAborted()
      signal.addEventListener('abort', onAbort)
      this.#forget.push(() => signal.removeEventListener('abort', onAbort))
    }
    try {
      this.#iterator = startSource(source, this.#controller)
    } catch (error) {
      return this.#fail(error)
    }
    this.#advance()
  }

  readonly #advance = (): void => {
    const { connection } = this.#gate
    while (!this.#stopped) {
      if (connection.endedBy) return this.#stopOver()
      if (connection.needsDrain) return connection.onDrain(this.#advance)
      if (this.#turnIsFull || performance.now() - this.#turnBeganAt >= TURN_MS) {
        setImmediate(this.#beginTurn)
        return
      }
      let step: unknown
      try {
        step = this.#iterator?.next()
      } catch (error) {
        return this.#fail(error)
      }
      if (isPromise(step)) {
        step.then(this.#onStep, this.#fail)
        return
      }
      if (!this.#take(step)) return
    }
  }

  readonly #beginTurn = (): void => {
    this.#turnBeganAt = performance.now()
    this.#turnIsFull = false
    this.#advance()
  }

  readonly #onStep = (step: unknown): void => {
    if (!this.#stopped && this.#take(step)) this.#advance()
  }

  // The following four return whether the pump may go on at once; if not, they see to it that it goes on later.

  #take(step: unknown): boolean {
    if (typeof step !== 'object' || step === null) {
      this.#fail(new TypeError(`The source's next() gave ${String(step)}; give { value, done }`))
      return false
    }
    const { done, value } = step as IteratorResult<unknown>
    if (done) {
      this.#finish()
      return false
    }
    if (!isPromise(value)) return this.#offer(value)
    value.then((item) => {
      if (!this.#stopped && this.#offer(item)) this.#advance()
    }, this.#fail)
    return false
  }

  #offer(item: unknown): boolean {
    const { toEvent } = this.#options
    const framed = frameEvent(this.#gate.projections, toEvent ? toEvent(item) : item)
    if (!isPromise(framed)) return this.#emit(item, framed)
    framed.then((later) => {
      if (!this.#stopped && this.#emit(item, later)) this.#advance()
    })
    return false
  }

  #emit(item: unknown, framed: Framed): boolean {
    if (typeof framed === 'string') return this.#withhold(item, framed)
    const { connection } = this.#gate
    connection.writeFrame(framed.text)
    this.#sent += 1
    if (framed.id !== undefined) this.#options.onId(framed.id)
    if (connection.isFull) {
      connection.flush()
      this.#turnIsFull = true
    }
    return true
  }

  #withhold(item: unknown, why: WithholdReason): boolean {
    this.#withheld += 1
    try {
      this.#options.onWithhold?.(item, why)
      if (!this.#options.strict) return true
    } catch (error) {
      this.#fail(error)
      return false
    }
    this.#fail(withheldInStrict(item, why))
    return false
  }

  /** The source ended. */
  #finish(): void {
    const { connection } = this.#gate
    this.#stop()
    if (this.#options.end === false) {
      connection.flush()
      return this.#settle('source')
    }
    this.#endResponse(() => this.#settle(connection.finished ? 'source' : (connection.endedBy ?? 'aborted')))
  }

  /** The response is over, or has been ended by somebody else. */
  #stopOver(): void {
    this.#stop()
    this.#abandonSource()
    this.#settle(this.#gate.connection.endedBy ?? 'aborted')
  }

  #stopAborted(): void {
    this.#stop()
    this.#abandonSource()
    if (this.#options.end === false) return this.#settle('aborted')
    this.#endResponse(() => this.#settle('aborted'))
  }

  readonly #fail = (error: unknown): void => {
    if (this.#stopped) return
    this.#stop()
    this.#abandonSource()
    // Not before: Express destroys the socket of an error it is given, and with it what was already sent.
    this.#endResponse(() => this.#reject(error))
  }

  #stop(): void {
    this.#stopped = true
    for (const forget of this.#forget) forget()
  }

  #abandonSource(): void {
    this.#controller.abort()
    try {
      const returned = this.#iterator?.return?.()
      if (isPromise(returned)) returned.then(undefined, () => {})
    } catch {
      // A generator that is running right now cannot be returned, and nobody is left to be told of anything else.
    }
  }

  #endResponse(then: () => void): void {
    const { connection } = this.#gate
    connection.end(this.#options.end === 'final' ? DO_NOT_COME_BACK : '')
    if (connection.isOver) then()
    else connection.onOver(then)
  }

  #settle(endedBy: StreamResult['endedBy']): void {
    this.#resolve({ sent: this.#sent, withheld: this.#withheld, endedBy })
  }
}

function withheldInStrict(item: unknown, why: WithholdReason) {
  const name = (item as { event?: unknown } | null | undefined)?.event
  return streamError(
    'ERR_STREAM_WITHHELD',
    `The event ${JSON.stringify(String(name))} was withheld (${why}); list it in defineEvents, or do not stream it to this session`,
  )
}
