import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Request, Response } from 'express'
import { isLimit, isPromise } from '../checks.js'
import { terminate } from '../endings.js'
import { inspectValue, isRefusal, streamError } from '../errors.js'
import { withOtherPolicies } from '../rate-limit-lists.js'
import { isResponseClosed } from '../response-close.js'
import { addSlotOwner } from '../response-slots.js'
import { AbandonedSources } from './abandoned-sources.js'
import { Reservation } from './reservation.js'
import { createSlotIds } from './slot-ids.js'
import { SlotLease } from './slot-lease.js'
import { SlotManager } from './slot-manager.js'
import { resolveStreamLimitOptions, type StreamLimitOptions } from './stream-limit-options.js'
import { warnOfMisuse } from './validations.js'
import { waitForPendingClose } from './wait-for-pending-close.js'

type Next = (error?: unknown) => void

/**
 * The middleware, with a look at what it holds.
 *
 * It is typed on node:http and not on Express's `RequestHandler`, because the latter widens `req.params` of
 * the next handler on the same route.
 */
export interface StreamLimit {
  (req: IncomingMessage, res: ServerResponse, next: Next): Promise<void>
  /**
   * How many slots `key` holds in the store now, over all processes that share it; while the store is away, how many
   * this process holds. Nobody (undefined, null or `''`) holds none. Rejects for nothing but a key that is no string,
   * with a TypeError.
   */
  count(key: string | null | undefined): Promise<number>
  /** How many streams this limiter holds open in this process. */
  readonly open: number
  /** Whether the store is away, and new streams are treated as `whenStoreDown` says. */
  readonly isStoreDown: boolean
}

/**
 * Makes a middleware that caps how many streams a user holds open at once.
 *
 * It takes a slot before the next handler runs, and gives it back when the response closes: exactly once,
 * however it ends. Over the cap the request goes to `next(error)` with an http-errors error (429
 * `ERR_STREAM_LIMIT`), before any byte is written and without costing a slot.
 *
 * HEAD and OPTIONS pass unseen. The same limiter met twice on one request counts once; different limiters
 * stack, and what an earlier one granted comes back when a later one refuses. A request whose client has gone
 * by the time its turn comes goes no further.
 *
 * @throws TypeError when an option cannot work; it quotes the value and says what to give instead.
 */
export function streamLimit(options: StreamLimitOptions): StreamLimit {
  const { limit, keyGenerator, store, whenStoreDown, capacity, abandonedLimit, identifier, handler, skip } =
    resolveStreamLimitOptions(options)
  const manager = new SlotManager(store, whenStoreDown, identifier)
  const abandoned = new AbandonedSources(identifier)
  const nextSlotId = createSlotIds()
  const admitted = new WeakSet<ServerResponse>()
  /** The streams that this limiter holds open in this process. Only admitted ones: whoever is refused takes no place. */
  let open = 0
  const isFull = () => open >= capacity
  warnOfMisuse(store)

  // An async function runs up to its first await in the caller's tick, and nothing here awaits a value that has
  // arrived already: with a synchronous store the next handler runs in the same tick.
  async function streamLimitMiddleware(nodeReq: IncomingMessage, nodeRes: ServerResponse, next: Next) {
    const req = nodeReq as Request
    const res = nodeRes as Response
    if (req.method === 'HEAD' || req.method === 'OPTIONS' || admitted.has(res)) return next()
    let error: unknown
    try {
      const skipped = skip(req, res)
      if (!(isPromise(skipped) ? await skipped : skipped)) {
        const found = keyGenerator(req, res)
        const key = checkKey(isPromise(found) ? await found : found)
        if (isFull()) await waitForPendingClose(() => !isFull())
        if (isResponseClosed(req, res)) return
        if (isFull()) throw capacityReached(identifier)
        const reservation = new Reservation(req, res)
        try {
          const asked = typeof limit === 'function' ? limit(req, res) : limit
          const cap = checkLimit(isPromise(asked) ? await asked : asked)
          if (reservation.isCancelled) return
          checkAbandoned(res, key, cap, manager.countLocally(key))
          const lease = new SlotLease(key, nextSlotId(), cap, (reason) => terminate(res, reason))
          const answer = manager.acquire(lease, reservation)
          const grant = isPromise(answer) ? await answer : answer
          // From here to `commit` in one tick, so that nothing changes in between.
          if (!grant.granted) throw limitReached(res, identifier, cap, grant.held)
          if (reservation.isCancelled) return manager.release(lease)
          try {
            // Others may have been admitted, or have left work behind, while the store was asked.
            if (isFull()) throw capacityReached(identifier)
            checkAbandoned(res, key, cap, manager.countLocally(key) - 1)
          } catch (refusal) {
            manager.release(lease)
            throw refusal
          }
          admitted.add(res)
          open += 1
          addSlotOwner(res, { abandonSource: () => abandoned.add(key) })
          reservation.commit(() => {
            open -= 1
            manager.release(lease)
          })
        } finally {
          reservation.cancelUnlessCommitted()
        }
      }
    } catch (thrown) {
      error = toError(thrown)
    }
    if (!error) return next()
    if (!isRefusal(error)) return next(error)
    // Nobody is left to be refused.
    if (isResponseClosed(req, res)) return
    if (!handler) return next(error)
    try {
      await handler(req, res, next, error)
    } catch (thrown) {
      // Not by a rejection: Express 4 does not hear it.
      next(toError(thrown))
    }
  }

  /**
   * @param streams how many streams the key holds open in this process.
   * @throws ERR_STREAM_LIMIT if too much goes on for a key, though maybe nobody reads it.
   */
  function checkAbandoned(res: ServerResponse, key: string, cap: number, streams: number): void {
    const count = abandoned.count(key)
    const most = cap + (abandonedLimit ?? Math.max(10, 2 * cap))
    if (count > 0 && count + streams >= most) throw tooMuchAbandoned(res, identifier, cap, count)
  }

  return Object.defineProperties(streamLimitMiddleware, {
    count: { value: (key: unknown) => manager.count(key), enumerable: true },
    open: { get: () => open, enumerable: true },
    isStoreDown: { get: () => manager.isStoreDown, enumerable: true },
  }) as typeof streamLimitMiddleware & StreamLimit
}

function limitReached(res: ServerResponse, identifier: string, limit: number, held: number) {
  return streamError(
    'ERR_STREAM_LIMIT',
    limit === 0
      ? `You may not open a stream here (policy "${identifier}").`
      : `You have ${held} of ${limit} allowed streams open (policy "${identifier}"). Close one, then try again.`,
    { headers: rateLimitHeaders(res, identifier, limit) },
  )
}

function tooMuchAbandoned(res: ServerResponse, identifier: string, limit: number, abandoned: number) {
  const streams = abandoned === 1 ? '1 stream' : `${abandoned} streams`
  return streamError(
    'ERR_STREAM_LIMIT',
    `The work of ${streams} that you left has not stopped yet, as it does not heed its signal (policy "${identifier}"). Try again later.`,
    { headers: rateLimitHeaders(res, identifier, limit) },
  )
}

/**
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ (draft 10): a quota of streams that are open at
 * once, of which none remains. There is no Retry-After, as nobody knows when one closes. With the policies of others, as
 * whoever answers, such as Express itself, may set these headers in the place of those that are there.
 */
function rateLimitHeaders(res: ServerResponse, identifier: string, limit: number): Record<string, string> {
  return withOtherPolicies(res, {
    'RateLimit-Policy': `"${identifier}";q=${limit};qu="concurrent-requests"`,
    RateLimit: `"${identifier}";r=0`,
  }) as Record<string, string>
}

function capacityReached(identifier: string) {
  return streamError(
    'ERR_STREAM_CAPACITY',
    `This server holds as many open streams as it can (policy "${identifier}"). Try again later.`,
  )
}

function checkKey(key: unknown): string {
  if (typeof key === 'string' && key !== '') return key
  if (key === undefined || key === null || key === '') {
    throw streamError('ERR_STREAM_NO_KEY', 'Sign in to open a stream.')
  }
  throw streamError(
    'ERR_STREAM_BAD_KEY',
    `keyGenerator returned a value of type ${typeof key}; return a string, such as String(user.id), or undefined for nobody`,
  )
}

function checkLimit(limit: unknown): number {
  if (isLimit(limit)) return limit
  throw streamError(
    'ERR_STREAM_BAD_LIMIT',
    `limit() returned ${inspectValue(limit)}; return an integer >= 0 or Infinity`,
  )
}

/**
 * What Express must see as an error. `throw undefined`, or `throw 'route'`, would make `next` go on to a handler
 * without a slot.
 */
function toError(thrown: unknown): object {
  if (typeof thrown === 'object' && thrown !== null) return thrown
  return new Error(`A function given to streamLimit threw ${inspectValue(thrown)}; throw an Error instead`)
}
