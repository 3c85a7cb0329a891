import type { StreamEvent } from 'express-sse-guard'

/** A source that never yields, never ends, and takes no notice of being returned. */
export const never: AsyncIterable<StreamEvent> = {
  [Symbol.asyncIterator]: () => ({
    next: () => new Promise(() => {}),
  }),
}

/** A source that never yields, and ends when it is told that nobody wants more. */
export async function* untilAborted(signal: AbortSignal): AsyncGenerator<StreamEvent, void> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve))
}

/** A source that is fed by hand and tells what becomes of it. */
export class ManualSource implements AsyncIterable<StreamEvent> {
  returned = false
  pulls = 0
  signal: AbortSignal | undefined
  #answer: ((result: IteratorResult<StreamEvent>) => void) | undefined
  #fail: ((error: unknown) => void) | undefined
  #asked: (() => void) | undefined

  /** To be given to streamEvents. */
  readonly start = (signal: AbortSignal) => {
    this.signal = signal
    return this
  };

  [Symbol.asyncIterator](): AsyncIterator<StreamEvent> {
    return {
      next: () =>
        new Promise((resolve, reject) => {
          this.pulls += 1
          this.#answer = resolve
          this.#fail = reject
          this.#asked?.()
        }),
      return: () => {
        this.returned = true
        // It ignores that it was returned: what it answers is nobody's.
        return new Promise(() => {})
      },
    }
  }

  /** Waits until the stream asks for an event, and gives it. */
  async give(event: unknown): Promise<void> {
    await this.#idle()
    this.#take()?.({ done: false, value: event as StreamEvent })
  }

  async end(): Promise<void> {
    await this.#idle()
    this.#take()?.({ done: true, value: undefined })
  }

  async fail(error: unknown): Promise<void> {
    await this.#idle()
    this.#take()
    this.#fail?.(error)
  }

  #take() {
    const answer = this.#answer
    this.#answer = undefined
    return answer
  }

  async #idle(): Promise<void> {
    while (!this.#answer) {
      await new Promise<void>((resolve) => {
        this.#asked = resolve
      })
    }
  }
}
