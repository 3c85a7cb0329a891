import { type BenchEvent, benchEvent } from './bench-event.js'
import { Feed } from './feed.js'

export type Send = (event: BenchEvent) => unknown

/** The open streams of one server, and the application that sends to all of them. */
export class OpenStreams {
  readonly #sends = new Set<Send>()
  /** The number of the next event. All streams get the same ones. */
  nextIndex = 0

  get size(): number {
    return this.#sends.size
  }

  /** Sends all further events there as well, until the returned function is called. */
  add(send: Send): () => void {
    this.#sends.add(send)
    return () => void this.#sends.delete(send)
  }

  /** All further events as a source, for a variant that reads one. It ends with `signal`, `return()` or `end()`. */
  feed(signal?: AbortSignal): Feed<BenchEvent> {
    return new StreamFeed(this, signal)
  }

  /** Sends so many events in each of so many ticks, to every stream. */
  send(ticks: number, perTick: number): Promise<void> {
    return new Promise((resolve) => this.#tick(ticks, perTick, resolve))
  }

  #tick(ticks: number, perTick: number, resolve: () => void): void {
    if (ticks === 0) return resolve()
    for (let n = 0; n < perTick; n += 1) {
      const event = benchEvent(this.nextIndex)
      this.nextIndex += 1
      for (const send of this.#sends) send(event)
    }
    setImmediate(() => this.#tick(ticks - 1, perTick, resolve))
  }
}

class StreamFeed extends Feed<BenchEvent> {
  readonly #remove: () => void

  constructor(streams: OpenStreams, signal: AbortSignal | undefined) {
    super()
    this.#remove = streams.add((event) => this.push(event))
    signal?.addEventListener('abort', () => this.end(), { once: true })
  }

  override end(): void {
    this.#remove()
    super.end()
  }
}
