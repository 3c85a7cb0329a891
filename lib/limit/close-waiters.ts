/**
 * How long a refusal waits for one of the user's streams to close. A client that aborts a stream and opens the next within
 * milliseconds is ahead of its own close by 0.3 to 10 ms.
 */
const MAX_WAIT_MS = 50

/** A request that waits. */
export interface WaitingRequest {
  /** Whether nobody waits for the stream any more. */
  readonly isCancelled: boolean
  /** Calls `listener` when the response closes; returns a function that takes the listener back. */
  onCancel(listener: () => void): () => void
}

/** Requests that will be refused unless a stream of their key closes in time. They hold no slot and no place. */
export class CloseWaiters {
  /** By key, in the order of arrival: each close is for the one who has waited longest. No key without waiters. */
  readonly #waitersOf = new Map<string, Set<() => void>>()

  /** When a request that begins to wait now gives up, for {@link waitForClose}. */
  deadline(): number {
    return performance.now() + MAX_WAIT_MS
  }

  /** Resolves with true when a stream of the key has closed; with false at the deadline, or when the client leaves. */
  waitForClose(key: string, deadline: number, request: WaitingRequest): Promise<boolean> {
    const waitMs = deadline - performance.now()
    if (waitMs <= 0) return Promise.resolve(false)
    return new Promise((resolve) => {
      const waiters = this.#waitersOf.get(key) ?? new Set()
      this.#waitersOf.set(key, waiters)
      const settle = (hasClosed: boolean) => {
        clearTimeout(timer)
        stopListening()
        waiters.delete(wake)
        if (waiters.size === 0) this.#waitersOf.delete(key)
        resolve(hasClosed)
      }
      const wake = () => settle(true)
      const timer = setTimeout(settle, waitMs, false)
      const stopListening = request.onCancel(() => settle(false))
      waiters.add(wake)
    })
  }

  /** A stream of the key has closed, or lost its slot: one more may be let in. */
  notifyClosed(key: string): void {
    const [longest] = this.#waitersOf.get(key) ?? []
    longest?.()
  }
}
