import {
  type IncomingMessage,
  type ServerResponse,
  STATUS_CODES,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http'
import { badOption, isRefusal, isStreamErrorCode } from '../errors.js'
import { http2StreamOf } from '../http2-stream.js'
import { withOtherPolicies } from '../rate-limit-lists.js'

/** They describe the body that the route was going to send, or how it would have travelled. */
const OF_ANOTHER_BODY = [
  'Content-Encoding',
  'Content-Language',
  'Content-Range',
  'ETag',
  'Last-Modified',
  // Beside a Content-Length it would leave two readers with two ideas of where the body ends.
  'Transfer-Encoding',
  'Trailer',
]

/**
 * Makes an error middleware that answers with RFC 9457 problem details (`application/problem+json`).
 *
 * It renders our four refusals always, and other http-errors only if they say `expose`; everything else, and
 * every error that comes after the headers were sent, goes on to the next error handler. The body has `type`,
 * `title`, `status`, `detail` (the error's message) and, on our errors, `code`; that of a 500 has no `detail`
 * and no `code`. `err.headers` are sent, except those that are no valid header; `RateLimit` and `RateLimit-Policy` are
 * lists, and are appended to what other middleware has said.
 *
 * Register it after the routes whose errors it is to render, as every error middleware.
 *
 * @throws TypeError when it is given arguments, as by `app.use(problemJson)`: every request would go unanswered.
 */
export function problemJson(...none: readonly never[]) {
  if (none.length > 0)
    throw badOption('problemJson: the first argument', none[0], 'none: app.use(problemJson())')
  return function problemJsonMiddleware(
    error: unknown,
    _req: IncomingMessage,
    res: ServerResponse,
    next: (error?: unknown) => void,
  ): void {
    const { status, expose, message, code, headers } = (error ?? {}) as Record<string, unknown>
    const known = isRefusal(error) || (isErrorStatus(status) && expose === true)
    if (res.headersSent || !known) return next(error)

    const problem = {
      type: 'about:blank',
      title: STATUS_CODES[status as number] ?? 'Error',
      status,
      ...(status !== 500 && { detail: message }),
      ...(status !== 500 && isStreamErrorCode(code) && { code }),
    }
    const body = Buffer.from(JSON.stringify(problem))

    // A 416 says how long the whole is (RFC 9110 section 15.5.17), but not with what the route said.
    res.removeHeader('Content-Range')
    // RFC 6585 section 4: a 429 must not be stored by a cache; the other refusals pass as quickly.
    setHeaders(res, { 'Cache-Control': 'no-store' })
    if (typeof headers === 'object' && headers !== null) setHeaders(res, withOtherPolicies(res, headers))
    for (const name of OF_ANOTHER_BODY) {
      // Removing a Transfer-Encoding that is not there would forbid Node to chunk what compresses this body.
      if (res.hasHeader(name) && !(name === 'Content-Range' && status === 416)) res.removeHeader(name)
    }
    setHeaders(res, { 'Content-Type': 'application/problem+json', 'Content-Length': body.byteLength })
    res.statusCode = status as number
    // HTTP/2 has no status message, and Node warns of one (RFC 9113 section 8.3.2).
    if (!http2StreamOf(res)) res.statusMessage = problem.title
    res.end(body)
  }
}

function isErrorStatus(status: unknown): boolean {
  return Number.isInteger(status) && (status as number) >= 400 && (status as number) <= 599
}

/** An undefined value, or one with a line break, would throw here: after the refusal, and past every handler. */
function setHeaders(res: ServerResponse, headers: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      validateHeaderName(name)
      validateHeaderValue(name, value as string)
    } catch {
      continue
    }
    res.setHeader(name, value as string)
  }
}
