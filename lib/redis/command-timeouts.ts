/** Into so many ticks the time limit is divided. */
const TICKS = 10

/**
 * Puts the same time limit on many promises with one timer, which ticks while there is something to wait for. A timer
 * for each command costs a good part of the command.
 *
 * The limit is a number of ticks and not a time. A process that is suspended, or that has so much to do that it cannot
 * read, would else take every answer that lies in its socket for one that did not come, and go on without a Redis
 * that is well. Such a pause is one tick, however long it was.
 */
export class CommandTimeouts {
  readonly #timeoutMs: number
  /** What began to wait in each tick, the latest last. What has settled since stays: rejecting it does nothing. */
  #waiting: ((error: Error) => void)[][] = []
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** Settles as `work` does, or rejects after the time limit. */
  limit<Value>(work: PromiseLike<Value>): Promise<Value> {
    return new Promise<Value>((resolve, reject) => {
      if (!this.#timer) {
        this.#waiting = [[]]
        this.#timer = this.#nextTick()
      }
      this.#waiting.at(-1)?.push(reject)
      work.then(resolve, reject)
    })
  }

  #nextTick(): NodeJS.Timeout {
    // What lies in the socket when the timer fires is read before the immediate runs.
    return setTimeout(() => setImmediate(() => this.#tick()), this.#timeoutMs / TICKS).unref()
  }

  #tick(): void {
    const due = this.#waiting.length === TICKS ? this.#waiting.shift() : undefined
    if (due?.length) {
      const error = new Error(`Redis did not answer within ${this.#timeoutMs} ms`)
      for (const reject of due) reject(error)
    }
    const isIdle = this.#waiting.every(({ length }) => length === 0)
    this.#waiting.push([])
    this.#timer = isIdle ? undefined : this.#nextTick()
  }
}
