import { messageOf } from '../errors.js'
import { warn } from '../warnings.js'
import { RetryTimer } from './retry-timer.js'

/**
 * A circuit breaker for the whole store. While it is open nothing is sent to the store but one probe at a time: Redis
 * clients queue without bound what they cannot send.
 */
export class StoreHealth {
  readonly #retry: RetryTimer
  readonly #consequence: string
  #isOpen = false

  /**
   * @param recover looks whether the store answers, brings it up to date and calls `close`; rejects if it is still down.
   * @param leaseMs how long a slot lives in the store.
   * @param consequence what happens meanwhile, in words for the log.
   */
  constructor(recover: () => Promise<void>, leaseMs: number, consequence: string) {
    this.#retry = new RetryTimer(recover, leaseMs)
    this.#consequence = consequence
  }

  /** Whether the whole store is down. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /**
   * Takes the store for down until a probe finds it. Warns once, however many commands fail, and not again of one that
   * answers the probes but nothing else.
   */
  open(error: unknown): void {
    if (this.#isOpen) return
    this.#isOpen = true
    if (!this.#retry.start()) return
    warn(`The slot store failed: ${sentenceOf(error)} ${this.#consequence}`, 'ERR_STREAM_STORE')
  }

  /** The store is back. */
  close(): void {
    this.#isOpen = false
    this.#retry.stop()
  }
}

/** The message of an error, with one full stop. */
export function sentenceOf(error: unknown): string {
  return `${messageOf(error).replace(/\.$/, '')}.`
}
