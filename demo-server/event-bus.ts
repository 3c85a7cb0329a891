import type { StreamEvent } from 'express-sse-guard'

/**
 * Hands each published event to everybody who is subscribed at that moment.
 *
 * Each subscriber has a queue of its own, so one that reads slowly holds up nobody. A full queue drops its oldest
 * events, and the subscriber is told how many it missed by an `events.dropped`, in their place.
 */
export class EventBus {
  readonly #queues = new Set<EventQueue>()

  constructor(private readonly queueSize = 256) {}

  /** How many subscribers there are now. */
  get size(): number {
    return this.#queues.size
  }

  publish(event: StreamEvent): void {
    for (const queue of this.#queues) queue.put(event)
  }

  /** Everything published from this call on, until the signal aborts. */
  subscribe(signal: AbortSignal): AsyncIterable<StreamEvent> {
    const queue = new EventQueue(this.queueSize)
    const unsubscribe = () => {
      this.#queues.delete(queue)
      queue.end()
    }
    if (signal.aborted) queue.end()
    else {
      this.#queues.add(queue)
      signal.addEventListener('abort', unsubscribe, { once: true })
    }
    return queue.read()
  }
}

/** The queue of one subscriber. */
class EventQueue {
  #events: StreamEvent[] = []
  #dropped = 0
  #ended = false
  #wake = () => {}

  constructor(private readonly size: number) {}

  put(event: StreamEvent): void {
    this.#events.push(event)
    if (this.#events.length > this.size) {
      this.#events.shift()
      this.#dropped += 1
    }
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  async *read(): AsyncGenerator<StreamEvent, void> {
    while (!this.#ended) {
      if (this.#dropped > 0) {
        const count = this.#dropped
        this.#dropped = 0
        yield { event: 'events.dropped', data: { count } }
        continue
      }
      const event = this.#events.shift()
      if (event) yield event
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }
}
