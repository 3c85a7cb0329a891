import type { StreamEvent } from 'express-sse-guard'

/** Counts what the whitelist of one stream withholds, and tells its reader, by an event that passes it too. */
export class WithheldCount {
  #count = 0
  readonly #names: Record<string, number> = {}

  /** For `onWithhold`. */
  readonly add = (withheld: unknown): void => {
    const { event = 'message' } = withheld as StreamEvent
    this.#count += 1
    this.#names[event] = (this.#names[event] ?? 0) + 1
  }

  /** The same events, with the new count after each that was withheld. */
  async *among(events: AsyncIterable<StreamEvent>): AsyncGenerator<StreamEvent, void> {
    for await (const event of events) {
      const before = this.#count
      // The whitelist has decided on it by the time the next one is asked for.
      yield event
      if (this.#count > before) {
        yield { event: 'events.withheld', data: { count: this.#count, names: { ...this.#names } } }
      }
    }
  }
}
