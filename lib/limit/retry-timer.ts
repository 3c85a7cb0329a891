/** The first try after a failure: a dropped connection is often back by then. */
const FIRST_WAIT_MS = 100

/** The wait doubles after each try in vain, up to this, or to a third of a lease if that is shorter. */
const LONGEST_WAIT_MS = 5000

/** Tries something again and again, ever less often, until it is stopped. */
export class RetryTimer {
  readonly #attempt: () => Promise<void>
  readonly #longestWaitMs: number
  /** How long the next wait is. Kept over a short recovery, so that a store that comes and goes is not asked more often. */
  #waitMs = FIRST_WAIT_MS
  #timer: NodeJS.Timeout | undefined
  #stoppedAt = Number.NEGATIVE_INFINITY

  /** @param attempt is tried again if it rejects. Once it resolves, `stop` must have been called, or it is tried again. */
  constructor(attempt: () => Promise<void>, leaseMs: number) {
    this.#attempt = attempt
    this.#longestWaitMs = Math.min(LONGEST_WAIT_MS, leaseMs / 3)
  }

  /**
   * Begins to try; does nothing while it does so already.
   *
   * @returns whether this is a new failure and not a relapse soon after the last one.
   */
  start(): boolean {
    if (this.#timer) return false
    const isRelapse = performance.now() - this.#stoppedAt < LONGEST_WAIT_MS
    this.#waitMs = Math.min(isRelapse ? this.#waitMs * 2 : FIRST_WAIT_MS, this.#longestWaitMs)
    this.#schedule()
    return !isRelapse
  }

  stop(): void {
    if (!this.#timer) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#stoppedAt = performance.now()
  }

  #schedule(): void {
    // No reason to keep a process alive: without it nobody needs the store.
    this.#timer = setTimeout(() => this.#run(), this.#waitMs).unref()
  }

  async #run(): Promise<void> {
    const timer = this.#timer
    try {
      await this.#attempt()
    } catch {
      // It is tried again.
    }
    if (this.#timer !== timer) return
    this.#waitMs = Math.min(this.#waitMs * 2, this.#longestWaitMs)
    this.#schedule()
  }
}
