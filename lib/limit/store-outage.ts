import { textOf } from '../errors.js'
import { warn } from '../warn.js'

/** The first look after a store failed: a dropped connection is often back by then. */
const FIRST_PROBE_MS = 100

/** The wait doubles after each look in vain, up to this, or to a third of a lease if that is shorter. */
const LONGEST_PROBE_MS = 5000

/**
 * Whether a store is away, and when to look for it again. While it is away nothing is sent to it but one probe at a
 * time: Redis clients queue without bound what they cannot send.
 */
export class StoreOutage {
  readonly #recover: () => Promise<void>
  readonly #longestProbeMs: number
  readonly #consequence: string
  #isDown = false
  #probeMs = FIRST_PROBE_MS
  #endedAt = Number.NEGATIVE_INFINITY

  /**
   * @param recover looks whether the store answers, brings it up to date and calls `end`; rejects if it is still away.
   * @param leaseMs how long a slot lives in the store.
   * @param consequence what happens meanwhile, in words for the log.
   */
  constructor(recover: () => Promise<void>, leaseMs: number, consequence: string) {
    this.#recover = recover
    this.#longestProbeMs = Math.min(LONGEST_PROBE_MS, leaseMs / 3)
    this.#consequence = consequence
  }

  get isDown(): boolean {
    return this.#isDown
  }

  /**
   * Takes the store for away until a probe finds it. Warns once, however many commands fail, and not again of one that
   * answers the probes but nothing else.
   */
  begin(error: unknown): void {
    if (this.#isDown) return
    this.#isDown = true
    const isRelapse = performance.now() - this.#endedAt < LONGEST_PROBE_MS
    this.#probeMs = Math.min(isRelapse ? this.#probeMs * 2 : FIRST_PROBE_MS, this.#longestProbeMs)
    this.#probeLater()
    if (isRelapse) return
    const text = textOf(error).replace(/\.$/, '')
    warn(`The slot store failed: ${text}. ${this.#consequence}`, 'ERR_STREAM_STORE')
  }

  /** The store is back. */
  end(): void {
    this.#isDown = false
    this.#endedAt = performance.now()
  }

  #probeLater(): void {
    // No reason to keep a process alive: without it nobody needs the store.
    setTimeout(() => this.#probe(), this.#probeMs).unref()
  }

  async #probe(): Promise<void> {
    try {
      await this.#recover()
    } catch {
      this.#probeMs = Math.min(this.#probeMs * 2, this.#longestProbeMs)
      this.#probeLater()
    }
  }
}
