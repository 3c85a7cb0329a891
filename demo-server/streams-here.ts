/** Counts the streams that each user holds open in this process. */
export class StreamsHere {
  readonly #counts = new Map<string, number>()

  count(key: string): number {
    return this.#counts.get(key) ?? 0
  }

  /**
   * Counts a stream while it is served. Not until its response closes: one that waits in a pipeline never does, if
   * the connection dies.
   */
  async during(key: string, stream: () => Promise<unknown>): Promise<void> {
    this.#counts.set(key, this.count(key) + 1)
    try {
      await stream()
    } finally {
      const left = this.count(key) - 1
      if (left > 0) this.#counts.set(key, left)
      else this.#counts.delete(key)
    }
  }
}
