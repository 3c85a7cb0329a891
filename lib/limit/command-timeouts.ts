/** One that waits, between the one who came before it and the one who came after. */
interface Waiting {
  readonly dueAt: number
  readonly reject: (error: Error) => void
  before: Waiting | undefined
  after: Waiting | undefined
}

/**
 * Puts the same time limit on many promises with one timer: what is waited for stands in a line, the oldest first, and
 * the timer is for the head of it. A timer for each command costs a good part of the command, and so would a Set.
 */
export class CommandTimeouts {
  readonly #timeoutMs: number
  #oldest: Waiting | undefined
  #latest: Waiting | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  /** Settles as `work` does, or rejects after the time limit. */
  limit<Value>(work: PromiseLike<Value>): Promise<Value> {
    return new Promise<Value>((resolve, reject) => {
      const waiting = this.#join(reject)
      this.#timer ??= this.#wait(this.#timeoutMs)
      work.then(
        (value) => {
          this.#leave(waiting)
          resolve(value)
        },
        (error) => {
          this.#leave(waiting)
          reject(error)
        },
      )
    })
  }

  #join(reject: Waiting['reject']): Waiting {
    const dueAt = performance.now() + this.#timeoutMs
    const waiting = { dueAt, reject, before: this.#latest, after: undefined }
    if (this.#latest) this.#latest.after = waiting
    else this.#oldest = waiting
    this.#latest = waiting
    return waiting
  }

  /** Does nothing the second time: the answer may come after the time limit. */
  #leave(waiting: Waiting): void {
    const { before, after } = waiting
    if (before) before.after = after
    else if (this.#oldest === waiting) this.#oldest = after
    if (after) after.before = before
    else if (this.#latest === waiting) this.#latest = before
    waiting.before = undefined
    waiting.after = undefined
  }

  #wait(ms: number): NodeJS.Timeout {
    // Where the process was suspended, or its event loop blocked, an answer may lie in the socket unread when the timer
    // fires. It is read before the immediate runs.
    return setTimeout(() => setImmediate(() => this.#reject()), ms).unref()
  }

  #reject(): void {
    const now = performance.now()
    this.#timer = undefined
    for (let waiting = this.#oldest; waiting; waiting = this.#oldest) {
      if (waiting.dueAt > now) {
        this.#timer = this.#wait(waiting.dueAt - now)
        return
      }
      this.#leave(waiting)
      waiting.reject(new Error(`Redis did not answer within ${this.#timeoutMs} ms`))
    }
  }
}
