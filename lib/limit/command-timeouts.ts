interface Waiting {
  readonly dueAt: number
  readonly reject: (error: Error) => void
}

/**
 * Puts the same time limit on many promises with one timer: what is waited for stands in a line, the oldest first, and
 * the timer is for the head of it. A timer for each command costs a good part of the command.
 */
export class CommandTimeouts {
  readonly #waiting = new Set<Waiting>()
  readonly #timeoutMs: number
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** Settles as `work` does, or rejects after the time limit. */
  limit<Value>(work: PromiseLike<Value>): Promise<Value> {
    return new Promise<Value>((resolve, reject) => {
      const waiting = { dueAt: performance.now() + this.#timeoutMs, reject }
      this.#waiting.add(waiting)
      this.#timer ??= this.#wait(this.#timeoutMs)
      work.then(
        (value) => {
          this.#waiting.delete(waiting)
          resolve(value)
        },
        (error) => {
          this.#waiting.delete(waiting)
          reject(error)
        },
      )
    })
  }

  #wait(ms: number): NodeJS.Timeout {
    // Where the process was suspended, or its event loop blocked, an answer may lie in the socket unread when the timer
    // fires. It is read before the immediate runs.
    return setTimeout(() => setImmediate(() => this.#reject()), ms).unref()
  }

  #reject(): void {
    const now = performance.now()
    this.#timer = undefined
    for (const waiting of this.#waiting) {
      if (waiting.dueAt > now) {
        this.#timer = this.#wait(waiting.dueAt - now)
        return
      }
      this.#waiting.delete(waiting)
      waiting.reject(new Error(`Redis did not answer within ${this.#timeoutMs} ms`))
    }
  }
}
