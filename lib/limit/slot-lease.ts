import { inspect } from 'node:util'
import { streamError } from '../errors.js'
import { isPromise } from '../is-promise.js'
import type { Grant, SlotStore } from './slot-store.js'

/**
 * One slot of one stream: taken once, and given back exactly once however many ends its stream has (an abort,
 * a throw, `res.end()`, a dead socket, or several of them).
 */
export class SlotLease {
  #released = false

  constructor(
    private readonly store: SlotStore,
    readonly key: string,
    readonly slotId: string,
  ) {}

  /**
   * Asks the store for the slot; at once if the store answers at once.
   *
   * @throws ERR_STREAM_STORE when the store fails. The slot is released then: the acquire may have happened and
   *   only its answer been lost.
   */
  acquire(limit: number): Grant | Promise<Grant> {
    try {
      const answer = this.store.acquire(this.key, this.slotId, limit)
      return isPromise(answer)
        ? Promise.resolve(answer).then(checkGrant).catch(this.#fail)
        : checkGrant(answer)
    } catch (error) {
      return this.#fail(error)
    }
  }

  /** Gives the slot back. Never throws: a response that has closed has nobody left to tell. */
  release(): void {
    if (this.#released) return
    this.#released = true
    try {
      const done = this.store.release(this.key, this.slotId)
      if (isPromise(done)) done.then(undefined, warnOfLostRelease)
    } catch (error) {
      warnOfLostRelease(error)
    }
  }

  readonly #fail = (cause: unknown): never => {
    this.release()
    throw streamError('ERR_STREAM_STORE', 'Open streams cannot be counted right now. Try again later.', {
      cause,
    })
  }
}

function checkGrant(grant: Grant): Grant {
  if (typeof grant?.granted === 'boolean') return grant
  throw new TypeError('The store answered an acquire with something other than { granted, held }')
}

function warnOfLostRelease(error: unknown): void {
  const text = error instanceof Error ? error.message : inspect(error, { depth: 0 })
  process.emitWarning(`The slot store failed to release a slot: ${text}`, { code: 'ERR_STREAM_STORE' })
}
