/** A source of events that come one after another: what an application puts between its bus and an `await`. */
export class Feed<T> implements AsyncIterableIterator<T> {
  /** Events that nobody has asked for yet, the oldest first. */
  readonly #queue: T[] = []
  /** Resolves the `next()` that waits for an event, if one does. */
  #resolve: ((result: IteratorResult<T>) => void) | undefined
  #isEnded = false

  push(event: T): void {
    const resolve = this.#resolve
    if (!resolve) return void this.#queue.push(event)
    this.#resolve = undefined
    resolve({ value: event, done: false })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<T>> {
    const { length } = this.#queue
    if (length > 0) return Promise.resolve({ value: this.#queue.shift() as T, done: false })
    if (this.#isEnded) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  return(): Promise<IteratorResult<T>> {
    this.end()
    return Promise.resolve({ value: undefined, done: true })
  }

  /** Nothing more comes: the reader gets what is queued, then the end. */
  end(): void {
    this.#isEnded = true
    this.#resolve?.({ value: undefined, done: true })
    this.#resolve = undefined
  }
}
