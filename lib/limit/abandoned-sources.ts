import { warn } from '../warnings.js'

/** How long a source may go on after its viewer left before the developer is told. */
const WARN_AFTER_MS = 5000

/** One source that has not settled. Holds neither the response nor the source. */
interface AbandonedSource {
  readonly key: string
  readonly since: number
}

/**
 * The sources of one limiter whose viewers have left and that have not settled. Their slots are free, but their work goes
 * on, and is bounded per key.
 */
export class AbandonedSources {
  /** Oldest first. */
  readonly #sources = new Set<AbandonedSource>()
  /** How many of them each key has. No key without any. */
  readonly #countOf = new Map<string, number>()
  readonly #identifier: string
  /** Fires when the oldest is due for the warning. Only while there are some and nothing was said. */
  #timer: NodeJS.Timeout | undefined
  #hasWarned = false

  constructor(identifier: string) {
    this.#identifier = identifier
  }

  count(key: string): number {
    return this.#countOf.get(key) ?? 0
  }

  /**
   * Counts a source until the returned function is called. A second call does nothing.
   */
  add(key: string): () => void {
    const source = { key, since: performance.now() }
    this.#sources.add(source)
    this.#countOf.set(key, this.count(key) + 1)
    this.#schedule()
    return () => this.#settle(source)
  }

  #settle(source: AbandonedSource): void {
    if (!this.#sources.delete(source)) return
    const count = this.count(source.key) - 1
    if (count > 0) this.#countOf.set(source.key, count)
    else this.#countOf.delete(source.key)
    if (this.#sources.size > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #schedule(): void {
    const [oldest] = this.#sources
    if (this.#timer || this.#hasWarned || !oldest) return
    const waitMs = Math.max(1, oldest.since + WARN_AFTER_MS - performance.now())
    this.#timer = setTimeout(() => this.#check(), waitMs).unref()
  }

  #check(): void {
    this.#timer = undefined
    const [oldest] = this.#sources
    if (!oldest || performance.now() - oldest.since < WARN_AFTER_MS) return this.#schedule()
    this.#hasWarned = true
    warn(
      `A source goes on ${WARN_AFTER_MS / 1000} s after its viewer left (policy "${this.#identifier}"). Give streamEvents a ` +
        'function of the signal, (signal) => source(signal), and pass the signal on to whatever the source waits for.',
      'ERR_STREAM_ABANDONED',
    )
  }
}
