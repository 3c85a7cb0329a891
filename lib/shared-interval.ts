/** Into so many parts an interval is divided, so that members which joined at different times are visited apart. */
const PARTS = 8

/** A member of a {@link SharedInterval}, and when it is due next, in parts since the start. */
interface Membership {
  readonly visit: () => void
  dueAt: number
}

/**
 * Calls each of many members at the same interval, with one timer for all, which runs only while there are some. A timer
 * for each costs more than what most of them do.
 */
class SharedInterval {
  readonly #partMs: number
  readonly #parts: number
  /** In the order in which they are due. */
  readonly #members = new Set<Membership>()
  #timer: NodeJS.Timeout | undefined
  /** How many parts have passed since the timer was started. */
  #now = 0

  constructor(intervalMs: number) {
    this.#parts = intervalMs < PARTS ? 1 : PARTS
    this.#partMs = intervalMs / this.#parts
  }

  get isIdle(): boolean {
    return this.#members.size === 0
  }

  add(visit: () => void): Membership {
    const membership = { visit, dueAt: this.#now + this.#parts }
    this.#members.add(membership)
    this.#timer ??= setInterval(() => this.#tick(), this.#partMs)
    return membership
  }

  delete(membership: Membership): void {
    this.#members.delete(membership)
    if (this.#members.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #tick(): void {
    this.#now += 1
    for (const membership of this.#members) {
      if (membership.dueAt > this.#now) break
      // Behind the others, so that the set stays in order. One that is deleted by its visit is gone.
      this.#members.delete(membership)
      membership.dueAt = this.#now + this.#parts
      this.#members.add(membership)
      membership.visit()
    }
  }
}

/** The intervals that have members, by their length. */
const intervals = new Map<number, SharedInterval>()

/**
 * Calls `visit` every `intervalMs` or so (the first time up to an eighth later), together with all others of that interval.
 * `visit` must not throw.
 *
 * @returns a function that stops it; calling it twice does nothing.
 */
export function everyShared(intervalMs: number, visit: () => void): () => void {
  const interval = intervals.get(intervalMs) ?? new SharedInterval(intervalMs)
  intervals.set(intervalMs, interval)
  const membership = interval.add(visit)
  return () => {
    interval.delete(membership)
    if (interval.isIdle && intervals.get(intervalMs) === interval) intervals.delete(intervalMs)
  }
}
