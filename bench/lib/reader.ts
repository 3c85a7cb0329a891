import { StreamViewer, type Target } from './stream-viewer.js'

/** How many connections are being opened at a time. */
const IN_FLIGHT = 32

/** Reads many streams, decodes each event and checks it. The first fault ends the benchmark. */
export class Reader {
  #viewers: StreamViewer[] = []
  /** Comments that arrived in all streams. */
  #comments = 0
  /** Events that arrived in all streams, and how many must before `whenRead` goes on. */
  #events = 0
  #expected = 0
  #onProgress: () => void = () => {}
  #fault: Error | undefined

  /** Opens so many streams, each for a user of its own; their next event must be number `index`. */
  async open(target: Target, count: number, index: number): Promise<void> {
    await inFlight(count, async (user) => {
      const viewer = new StreamViewer(target, user, index, {
        onEvent: () => this.#onEvent(),
        onComment: () => this.#onComment(),
        onFault: (error) => this.#onFault(error),
      })
      this.#viewers.push(viewer)
      await viewer.opened
    })
    this.#expected = this.#events = 0
  }

  /** Resolves when each stream has got that many more events, and not one more. */
  async read(perStream: number): Promise<void> {
    this.#expected += perStream * this.#viewers.length
    await this.#until(
      () => this.#events >= this.#expected,
      () => `${this.#expected - this.#events} events are missing`,
    )
    if (this.#events > this.#expected) throw new Error('more events arrived than were sent')
  }

  /** Resolves with how many comments have arrived when it is at least that many per stream. */
  async readComments(perStream: number): Promise<number> {
    const from = this.#comments
    const enough = from + perStream * this.#viewers.length
    await this.#until(
      () => this.#comments >= enough,
      () => `${enough - this.#comments} comments are missing`,
    )
    return this.#comments - from
  }

  /** How many comments have arrived so far. */
  countComments(): number {
    return this.#comments
  }

  /** Leaves all streams. */
  async close(): Promise<void> {
    const viewers = this.#viewers
    this.#viewers = []
    await Promise.all(viewers.map((viewer) => viewer.leave()))
    if (this.#fault) throw this.#fault
  }

  /** Opens a stream and leaves it as soon as its head is there, so many times. */
  async openAndLeave(target: Target, times: number): Promise<void> {
    await inFlight(times, async (user) => {
      const viewer = new StreamViewer(target, user, 0, {
        onEvent: () => this.#onFault(new Error('an event arrived that nobody sent')),
        onComment: () => {},
        onFault: (error) => this.#onFault(error),
      })
      await viewer.opened
      await viewer.leave()
    })
    if (this.#fault) throw this.#fault
  }

  /** Reads one answer to its end. */
  async readAnswer(target: Target, tokens: number): Promise<void> {
    let events = 0
    const viewer = new StreamViewer({ ...target, isEnding: true }, 0, 0, {
      onEvent: () => {
        events += 1
      },
      onComment: () => {},
      onFault: (error) => this.#onFault(error),
    })
    await viewer.closed
    if (this.#fault) throw this.#fault
    if (events !== tokens) throw new Error(`the answer has ${events} of ${tokens} events`)
  }

  #onEvent(): void {
    this.#events += 1
    if (this.#events >= this.#expected) this.#onProgress()
  }

  #onComment(): void {
    this.#comments += 1
    this.#onProgress()
  }

  #onFault(error: Error): void {
    this.#fault ??= error
    this.#onProgress()
  }

  async #until(isDone: () => boolean, whatIsMissing: () => string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`after 60 s ${whatIsMissing()}`)), 60_000)
      this.#onProgress = () => {
        if (!this.#fault && !isDone()) return
        clearTimeout(timer)
        this.#onProgress = () => {}
        resolve()
      }
      this.#onProgress()
    })
    if (this.#fault) throw this.#fault
  }
}

/** Calls `work` with 0 to `count` - 1, a few at a time. */
async function inFlight(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count) {
      const index = next
      next += 1
      await work(index)
    }
  }
  await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, count) }, worker))
}
