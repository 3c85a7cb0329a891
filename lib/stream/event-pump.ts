import { streamError } from '../errors.js'
import { isPromise } from '../is-promise.js'
import { type Attachment, addSharedListener } from '../shared-listener.js'
import type { ConnectionEnd } from './connection.js'
import { type Framed, frameEvent, type WithholdReason } from './frame-event.js'
import type { Gate, OnWithhold } from './gate.js'
import { discardSource, type ItemIterator, type StreamSource, startSource } from './stream-source.js'
import { inLaterTurn, isTurnOver } from './turns.js'

/**
 * The longest that every client can wait (the largest 32-bit timer, 24.8 days): an event stream has no word for
 * "do not come back" (WHATWG HTML 9.2.5).
 */
const DO_NOT_COME_BACK = 'retry: 2147483647\n\n'

const ABORT: Attachment<AbortSignal> = {
  attach: (signal, run) => signal.addEventListener('abort', run),
  detach: (signal, run) => signal.removeEventListener('abort', run),
}

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
  #stopWaiting: (() => void) | undefined
  #stopped = false
  #sent = 0
  #withheld = 0
  #hasFilledTurn = false

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
    if (connection.endedBy || signal?.aborted) {
      discardSource(source)
      return connection.endedBy ? this.#stopOver() : this.#stopAborted()
    }
    this.#forget.push(connection.onEnd(() => this.#stopOver()))
    if (signal) this.#forget.push(addSharedListener(signal, ABORT, () => this.#stopAborted()))
    this.#drive(() => {
      this.#iterator = startSource(source, this.#controller)
      if (this.#stopped) this.#abandonSource()
      return true
    })
  }

  /**
   * Does one piece of the work, and goes on pulling if it says so. What is thrown in it, by the source or by
   * what the application made of an event, fails the stream.
   */
  #drive(piece: () => boolean): void {
    if (this.#stopped) return
    try {
      let goOn = piece()
      while (goOn && !this.#stopped) goOn = this.#pull()
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Goes on with `piece` once `value` has arrived. */
  #driveLater<Value>(value: PromiseLike<Value>, piece: (value: Value) => boolean): void {
    // Through a promise of our own: somebody else's may call back at once, twice or not in order.
    Promise.resolve(value).then((arrived) => {
      if (this.#stopped) dropUnheard(arrived)
      else this.#drive(() => piece(arrived))
    }, this.#fail)
  }

  readonly #resume = (): void => {
    this.#drive(() => {
      this.#hasFilledTurn = false
      return true
    })
  }

  // The following return whether the pump may go on at once; if not, they see to it that it goes on later.

  #pull(): boolean {
    const { connection } = this.#gate
    if (connection.endedBy) {
      this.#stopOver()
      return false
    }
    if (connection.needsDrain) {
      this.#stopWaiting = connection.onDrain(this.#resume)
      return false
    }
    if (this.#hasFilledTurn || isTurnOver()) {
      inLaterTurn(this.#resume)
      return false
    }
    const iterator = this.#iterator
    const step: unknown = iterator?.next()
    if (this.#stopped) {
      // It ended the stream itself, and could not be returned while it was running.
      discardSource(iterator)
      dropUnheard(step)
      return false
    }
    if (!isPromise(step)) return this.#take(step)
    this.#driveLater(step, (arrived) => this.#take(arrived))
    return false
  }

  #take(step: unknown): boolean {
    if (typeof step !== 'object' || step === null) {
      throw new TypeError(`The source's next() gave ${String(step)}; give { value, done }`)
    }
    const { done, value } = step as IteratorResult<unknown>
    if (done) {
      dropUnheard(step)
      this.#finish()
      return false
    }
    if (!isPromise(value)) return this.#offer(value)
    this.#driveLater(value, (item) => this.#offer(item))
    return false
  }

  #offer(item: unknown): boolean {
    const { toEvent } = this.#options
    const framed = frameEvent(this.#gate.projections, toEvent ? toEvent(item) : item)
    if (!isPromise(framed)) return this.#emit(item, framed)
    this.#driveLater(framed, (later) => this.#emit(item, later))
    return false
  }

  #emit(item: unknown, framed: Framed): boolean {
    const { connection } = this.#gate
    // A schema or a getter of the application may have ended it.
    if (this.#stopped) return false
    if (typeof framed === 'string') {
      this.#withheld += 1
      this.#options.onWithhold?.(item, framed)
      if (this.#options.strict) throw withheldInStrict(item, framed)
      return true
    }
    if (connection.writeFrame(framed.text)) this.#hasFilledTurn = true
    this.#sent += 1
    if (framed.id !== undefined) this.#options.onId(framed.id)
    return true
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
    this.#stopWaiting?.()
  }

  #abandonSource(): void {
    this.#controller.abort()
    discardSource(this.#iterator)
    this.#iterator = undefined
  }

  #endResponse(then: () => void): void {
    const { connection } = this.#gate
    let whenOver = then
    try {
      connection.end(this.#options.end === 'final' ? DO_NOT_COME_BACK : '')
    } catch (error) {
      whenOver = () => this.#reject(error)
    }
    if (connection.isOver) whenOver()
    else connection.onOver(whenOver)
  }

  #settle(endedBy: StreamResult['endedBy']): void {
    this.#resolve({ sent: this.#sent, withheld: this.#withheld, endedBy })
  }
}

/** What a source gives after the end is nobody's, and neither is its rejection. */
function dropUnheard(step: unknown): void {
  try {
    const promise = isPromise(step) ? step : (step as { value?: unknown } | null | undefined)?.value
    if (isPromise(promise)) promise.then(undefined, () => {})
  } catch {
    // It cannot be read.
  }
}

function withheldInStrict(item: unknown, why: WithholdReason) {
  return streamError(
    'ERR_STREAM_WITHHELD',
    `${nameOf(item)} was withheld (${why}); list it in defineEvents, or do not stream it to this session`,
  )
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
