import { inspect } from 'node:util'
import createError from 'http-errors'

/**
 * Every error of a request carries one of these codes as `err.code`; the number is `err.status`. (An option that
 * cannot work is a TypeError with the code `ERR_STREAM_BAD_OPTION`, see {@link badOption}.)
 *
 * The first four are refusals: what a visitor can meet in normal operation, and what `problemJson()` always
 * renders. The others report a mistake in the program, except `ERR_STREAM_METHOD`, which is the visitor's.
 */
const STATUS_OF = {
  /** The key already holds as many streams as its limit. RFC 6585 section 4. */
  ERR_STREAM_LIMIT: 429,
  /** `keyGenerator` found nobody to count the stream for. */
  ERR_STREAM_NO_KEY: 401,
  /** This process holds as many streams as `capacity`. */
  ERR_STREAM_CAPACITY: 503,
  /** The store threw or rejected; `err.cause` has its error. */
  ERR_STREAM_STORE: 503,
  /** The method is none that can stream. `err.headers.Allow` lists those that can. RFC 9110 section 15.5.6. */
  ERR_STREAM_METHOD: 405,
  /** `keyGenerator` returned something other than a string or nothing. */
  ERR_STREAM_BAD_KEY: 500,
  /** `limit()` returned something other than an integer >= 0 or Infinity. */
  ERR_STREAM_BAD_LIMIT: 500,
  /** No whitelist from `defineEvents`, so nothing may be written. */
  ERR_STREAM_NO_WHITELIST: 500,
  /** The response was already used for something else. */
  ERR_STREAM_HEADERS_SENT: 500,
  /** Text that no whitelist has checked was about to be written. */
  ERR_STREAM_UNCHECKED: 500,
  /** An event was withheld while `strict` was on. */
  ERR_STREAM_WITHHELD: 500,
} as const

/** A code of this package, as found on `err.code`. */
export type StreamErrorCode = keyof typeof STATUS_OF

/** An http-errors error with one of our codes. */
export interface StreamError extends Error {
  code: StreamErrorCode
  /** The HTTP status, also as `statusCode`. */
  status: number
  statusCode: number
  /** Whether `message` may be shown to a visitor: http-errors says so of every 4xx. */
  expose: boolean
  /** Headers for the answer; Express's own error handler sends them too. */
  headers?: Record<string, string>
}

const REFUSALS: ReadonlySet<unknown> = new Set<StreamErrorCode>([
  'ERR_STREAM_LIMIT',
  'ERR_STREAM_NO_KEY',
  'ERR_STREAM_CAPACITY',
  'ERR_STREAM_STORE',
])

/** Builds the http-errors error of a code. `properties` may add `headers` or `cause`. */
export function streamError(
  code: StreamErrorCode,
  message: string,
  properties: { headers?: Record<string, string>; cause?: unknown } = {},
): StreamError {
  return createError(STATUS_OF[code], message, { ...properties, code }) as StreamError
}

/** Whether an error is one of the four refusals. Asked by code, because the package may be loaded twice. */
export function isRefusal(error: unknown): error is StreamError {
  const { code, status } = (error ?? {}) as Partial<StreamError>
  return REFUSALS.has(code) && STATUS_OF[code as StreamErrorCode] === status
}

/** Whether a code is one of ours, and so may be shown to a visitor. */
export function isStreamErrorCode(code: unknown): code is StreamErrorCode {
  return typeof code === 'string' && Object.hasOwn(STATUS_OF, code)
}

/**
 * The error of an option that cannot work, thrown when the option is given, not when it is first needed.
 * It quotes the value (shortened) and says what to type instead. A plain TypeError, as no request is to blame.
 */
export function badOption(where: string, value: unknown, instead: string): TypeError {
  return Object.assign(new TypeError(`${where} is ${inspectValue(value)}; give ${instead}`), {
    code: 'ERR_STREAM_BAD_OPTION',
  })
}

/** A value as a message may inspectValue it. Of an object only what it is: its content may be long, or nobody's business. */
export function inspectValue(value: unknown): string {
  try {
    const depth = Array.isArray(value) ? 0 : -1
    return inspect(value, { depth, maxStringLength: 80, maxArrayLength: 5, breakLength: Infinity })
  } catch {
    return 'something that cannot be shown'
  }
}

/** What to say of something that was thrown, in a warning for the log. Never throws itself. */
export function messageOf(thrown: unknown): string {
  try {
    if (thrown instanceof Error && typeof thrown.message === 'string') return thrown.message
  } catch {
    // A Proxy, or a message that throws when it is read.
  }
  return inspectValue(thrown)
}
