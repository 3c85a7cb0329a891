import type { Request, Response } from 'express'
import { isLimit, isTimerMs } from '../checks.js'
import { badOption, type StreamError } from '../errors.js'
import { checkOptionNames } from '../option-names.js'
import { MemoryStore } from '../store/memory-store.js'
import type { SlotStore } from '../store/slot-store.js'
import type { WhenStoreDown } from './slot-manager.js'

/**
 * A function of the request, answering at once or later. Typed as a method is, so that one may take a more exact
 * request: `(req: Request<{ id: string }>) => req.params.id`.
 */
type Asks<Answer> = { ask(req: Request, res: Response): Answer | Promise<Answer> }['ask']

/**
 * Options of {@link streamLimit}. The names are express-rate-limit's wherever the meaning is the same. An option
 * that does not exist throws.
 */
export interface StreamLimitOptions {
  /**
   * How many streams one key may hold open at once.
   *
   * An integer >= 0 (0 refuses everybody), `Infinity`, or a function of the request that returns one of these
   * or a promise of one, for plans. What a function returns that is no such number fails that request with
   * `ERR_STREAM_BAD_LIMIT` (500).
   *
   * Default: the environment variable `SSE_MAX_PER_USER`, read when the limiter is made and only if this
   * option is absent; else 5.
   *
   * @throws TypeError from `streamLimit` if it, or the variable, is anything else.
   */
  limit?: number | Asks<number> | undefined

  /**
   * Whose stream this is: a string, or a promise of one. Nothing (undefined, null or `''`) refuses the request
   * with 401 `ERR_STREAM_NO_KEY`, so that no stream goes uncounted; anything else (a number) fails it with
   * `ERR_STREAM_BAD_KEY` (500); what it throws goes to `next`.
   *
   * There is no default: everybody behind one NAT or proxy shares an IP address, so counting by it refuses
   * the innocent. Take the id of the user you have authenticated.
   */
  keyGenerator: Asks<string | null | undefined>

  /** Where slots live. Default: a `MemoryStore` of this limiter's own, which is exact for one process. */
  store?: SlotStore | undefined

  /**
   * What happens to new streams while the store does not answer (open ones are never cut for that):
   *
   * - `'local'`: this process counts its own streams in memory, against the same limit. With N processes a user has
   *   at most N times the limit.
   * - `'allow'`: every stream is let through, up to `capacity`.
   * - `'refuse'`: 503 `ERR_STREAM_STORE`.
   *
   * The beginning is warned of once, with `process.emitWarning`. Once the store answers again, it is told of all
   * streams that are open. Default: `'local'`.
   */
  whenStoreDown?: WhenStoreDown | undefined

  /**
   * How many streams this limiter holds open in this process, over all keys; beyond it 503
   * `ERR_STREAM_CAPACITY`. Only admitted streams fill it, not requests that are being decided or refused. An integer >= 0 or `Infinity`. Default: `Infinity`.
   */
  capacity?: number | undefined

  /**
   * How many sources of one key may go on in this process after their viewers left, beside the open streams: a request is
   * refused with 429 when both together are `limit + abandonedLimit` or more. A source that ignores its signal would
   * else run without bound, as its slot is free the moment its viewer leaves. An integer >= 0 or `Infinity`.
   *
   * @default Math.max(10, 2 * limit): a page that is reloaded at the cap is not refused for streams it just left
   */
  abandonedLimit?: number | undefined

  /**
   * The name of this policy in the `RateLimit` headers and in the text of problems: letters, digits, `.`, `_`,
   * `-`, at most 64 of them. Default: `'sse'`.
   */
  identifier?: string | undefined

  /**
   * Answers a refusal (`error.code` says which) instead of `next(error)`, which is the default. It must end the
   * response or call `next`; what it throws goes to `next`. Other errors, such as one thrown by `keyGenerator`, still go
   * to `next`. (Its fourth argument is the error, not the options as in express-rate-limit.)
   */
  handler?:
    | ((req: Request, res: Response, next: (error?: unknown) => void, error: StreamError) => unknown)
    | undefined

  /**
   * Returns true, or a promise of it, to let a request through uncounted: without a key, and beyond `capacity`. What it
   * throws goes to `next`. Default: none is.
   */
  skip?: Asks<boolean> | undefined
}

/** The options as the request path reads them: checked, with defaults. That of `abandonedLimit` depends on the limit. */
export type StreamLimitConfig = {
  [Name in Exclude<keyof StreamLimitOptions, WithoutDefault>]-?: Exclude<StreamLimitOptions[Name], undefined>
} & Pick<StreamLimitOptions, WithoutDefault>

type WithoutDefault = 'handler' | 'abandonedLimit'

const OPTIONS = {
  limit: true,
  keyGenerator: true,
  store: true,
  whenStoreDown: true,
  capacity: true,
  abandonedLimit: true,
  identifier: true,
  handler: true,
  skip: true,
} as const
/** Those of express-rate-limit. `windowMs` is not among them: nothing here means the same. */
const OTHER_NAMES = {
  max: 'limit',
  message: 'handler',
  statusCode: 'handler',
  passOnStoreError: 'whenStoreDown',
}
const DEFAULT_LIMIT = 5
const A_LIMIT = 'an integer >= 0 or Infinity'

/** Checks the options once, when the limiter is made, so that a mistake stops the start and not a request. */
export function resolveStreamLimitOptions(options: StreamLimitOptions): StreamLimitConfig {
  if (typeof options !== 'object' || options === null) {
    throw badOption('streamLimit: options', options, 'an object with at least a keyGenerator')
  }
  const { keyGenerator, limit, store, whenStoreDown, capacity, abandonedLimit, identifier, handler, skip } =
    options
  // A request has many members, and is what `app.use(streamLimit)` gives.
  const isRequest = 'method' in options && 'url' in options
  if (!isRequest) checkOptionNames<StreamLimitOptions>('streamLimit', options, OPTIONS, OTHER_NAMES)
  if (typeof keyGenerator !== 'function') {
    throw badOption(
      'streamLimit: keyGenerator',
      keyGenerator,
      'a function that says whose stream this is, such as (req, res) => res.locals.userId',
    )
  }
  if (store !== undefined && !isSlotStore(store)) {
    throw badOption(
      'streamLimit: store',
      store,
      'an object with acquire, release and count, such as new MemoryStore()',
    )
  }
  if (store?.leaseMs !== undefined && !(isTimerMs(store.leaseMs) && typeof store.renew === 'function')) {
    throw badOption(
      'streamLimit: leaseMs of the store',
      store.leaseMs,
      'an integer from 1 to 2147483647, in milliseconds, together with a method renew; or leave it out',
    )
  }
  if (whenStoreDown !== undefined && !['local', 'allow', 'refuse'].includes(whenStoreDown)) {
    throw badOption('streamLimit: whenStoreDown', whenStoreDown, "'local', 'allow' or 'refuse'")
  }
  for (const [name, value] of Object.entries({ capacity, abandonedLimit })) {
    if (value !== undefined && !isLimit(value)) throw badOption(`streamLimit: ${name}`, value, A_LIMIT)
  }
  if (identifier !== undefined && !(typeof identifier === 'string' && /^[\w.-]{1,64}$/.test(identifier))) {
    throw badOption(
      'streamLimit: identifier',
      identifier,
      "1 to 64 letters, digits, '.', '_' or '-', such as 'sse'",
    )
  }
  for (const [name, value] of Object.entries({ handler, skip })) {
    if (value !== undefined && typeof value !== 'function') {
      throw badOption(`streamLimit: ${name}`, value, 'a function, or leave it out')
    }
  }
  return {
    limit: resolveLimit(limit),
    keyGenerator,
    store: store ?? new MemoryStore(),
    whenStoreDown: whenStoreDown ?? 'local',
    capacity: capacity ?? Infinity,
    abandonedLimit,
    identifier: identifier ?? 'sse',
    skip: skip ?? (() => false),
    handler,
  }
}

function resolveLimit(limit: StreamLimitOptions['limit']): NonNullable<StreamLimitOptions['limit']> {
  if (limit === undefined) return limitFromEnvironment(process.env.SSE_MAX_PER_USER)
  if (typeof limit === 'function' || isLimit(limit)) return limit
  throw badOption('streamLimit: limit', limit, `${A_LIMIT}, or a function (req, res) => number`)
}

function limitFromEnvironment(text: string | undefined): number {
  if (text === undefined) return DEFAULT_LIMIT
  const limit = /^(\d+|Infinity)$/.test(text) ? Number(text) : Number.NaN
  if (isLimit(limit)) return limit
  throw badOption(
    'The environment variable SSE_MAX_PER_USER',
    text,
    `${A_LIMIT}, such as SSE_MAX_PER_USER=5, or unset it`,
  )
}

function isSlotStore(store: unknown): store is SlotStore {
  const { acquire, release, count } = (store ?? {}) as Partial<SlotStore>
  return typeof acquire === 'function' && typeof release === 'function' && typeof count === 'function'
}
