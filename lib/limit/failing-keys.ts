import { warn } from '../warnings.js'
import { RetryTimer } from './retry-timer.js'
import { sentenceOf } from './store-health.js'

/** How many keys are tried at once. When a shard is down there may be very many that fail. */
const BATCH = 16

/** How many keys are looked for in a message. */
const MAX_MASKED = 1000

/**
 * Keys that fail while the store as a whole answers: a key that holds something else (WRONGTYPE), or a shard that is down.
 * Each is treated as if the store were down, for itself alone.
 */
export class FailingKeys {
  readonly #recoverKey: (key: string) => Promise<void>
  readonly #retry: RetryTimer
  readonly #consequence: string
  /** The one that waits longest for its next try first. */
  readonly #keys = new Set<string>()
  /** What the latest key failed with, for the warning. */
  #error: unknown

  /**
   * @param recoverKey brings the store up to date with a key, and rejects if it still fails.
   * @param leaseMs how long a slot lives in the store.
   * @param consequence what happens meanwhile, in words for the log.
   */
  constructor(recoverKey: (key: string) => Promise<void>, leaseMs: number, consequence: string) {
    this.#recoverKey = recoverKey
    this.#retry = new RetryTimer(() => this.#recover(), leaseMs)
    this.#consequence = consequence
  }

  has(key: string): boolean {
    return this.#keys.has(key)
  }

  /** Counts a key as failing. Nothing is tried, and nothing said, before `start`. */
  add(key: string, error: unknown): void {
    this.#keys.add(key)
    this.#error = error
  }

  /** The store as a whole answers: tries the keys from now on, and warns once of however many there are. */
  start(): void {
    if (this.#keys.size === 0 || !this.#retry.start()) return
    const message = withoutKeys(sentenceOf(this.#error), this.#keys)
    warn(
      `The slot store failed: ${message} It answers for other keys. ${this.#consequence}`,
      'ERR_STREAM_STORE',
    )
  }

  /** All keys are tried in the ordinary way again, or the whole store is down. */
  clear(): void {
    this.#keys.clear()
    this.#retry.stop()
  }

  /** Some at a time, so that a shard that is down is not flooded; further ones as long as any answers. */
  async #recover(): Promise<void> {
    for (let tried = 0; tried < this.#keys.size; tried += BATCH) {
      const keys = firstOf(this.#keys, BATCH)
      const outcomes = await Promise.all(keys.map((key) => this.#tryKey(key)))
      if (!outcomes.includes(true)) break
    }
    if (this.#keys.size === 0) this.#retry.stop()
  }

  async #tryKey(key: string): Promise<boolean> {
    try {
      await this.#recoverKey(key)
      return true
    } catch {
      // Behind the others, so that each has its turn.
      if (this.#keys.delete(key)) this.#keys.add(key)
      return false
    }
  }

  /** A key answers again. */
  delete(key: string): void {
    this.#keys.delete(key)
  }
}

function firstOf(keys: Iterable<string>, count: number): string[] {
  const first: string[] = []
  for (const key of keys) {
    if (first.length === count) break
    first.push(key)
  }
  return first
}

/** The message of a store may name a key, which may name a user. */
function withoutKeys(message: string, keys: Iterable<string>): string {
  const longestFirst = firstOf(keys, MAX_MASKED).sort((a, b) => b.length - a.length)
  return longestFirst.reduce((text, key) => {
    const escaped = key.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
    // A whole word: a user who is called `e` must not make the message unreadable.
    return text.replace(new RegExp(`(?<![A-Za-z0-9])${escaped}(?![A-Za-z0-9])`, 'g'), '…')
  }, message)
}
