import type { NextFunction, Request, Response } from 'express'
import { callerOf } from './identity.js'

/** Counts the streams that each user holds open in this process. */
export class StreamsHere {
  readonly #counts = new Map<string, number>()

  count(key: string): number {
    return this.#counts.get(key) ?? 0
  }

  /** Comes after the limiter, so that it sees what was let through. */
  readonly middleware = (_req: Request, res: Response, next: NextFunction): void => {
    const { key } = callerOf(res)
    this.#counts.set(key, this.count(key) + 1)
    res.once('close', () => {
      const left = this.count(key) - 1
      if (left > 0) this.#counts.set(key, left)
      else this.#counts.delete(key)
    })
    next()
  }
}
