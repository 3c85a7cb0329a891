import type { IncomingMessage, ServerResponse } from 'node:http'
import { isResponseClosed, onResponseClose } from '../response-close.js'

/**
 * Watches a response whose stream is being decided. Made before the first await, as 'close' is not repeated for those who
 * come late. Takes no place within the capacity.
 */
export class Reservation {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #stopWatching: () => void
  /** Whether 'close' was heard. Somebody else may have emitted it, before the response is over. */
  #isClosed = false
  /** What gives the slot back, once the stream is admitted. */
  #onClose: (() => void) | undefined
  /** What ends a wait for a slot, while there is one. */
  #onCancel: (() => void) | undefined

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req
    this.#res = res
    this.#stopWatching = onResponseClose(req, res, () => {
      this.#isClosed = true
      this.#onCancel?.()
      this.#onClose?.()
    })
  }

  /** Whether nobody waits for the stream any more. */
  get isCancelled(): boolean {
    return this.#isClosed || isResponseClosed(this.#req, this.#res)
  }

  /**
   * Calls `listener` when the response closes, for one who waits: there is one at a time.
   *
   * @returns a function that takes the listener back.
   */
  onCancel(listener: () => void): () => void {
    this.#onCancel = listener
    return () => {
      this.#onCancel = undefined
    }
  }

  /** The stream is admitted: calls `onClose` once, when the response closes. */
  commit(onClose: () => void): void {
    this.#onClose = onClose
  }

  /** Takes the listeners back from a response whose stream was refused. */
  cancelUnlessCommitted(): void {
    if (!this.#onClose) this.#stopWatching()
  }
}
