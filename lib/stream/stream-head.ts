import { type IncomingMessage, type ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http'
import { Connection } from 'better-sse'
import { badOption, streamError } from '../errors.js'
import { isPlainObject } from '../is-plain-object.js'

/** Extra response headers: a value, several, or undefined to leave out one that would be sent by default. */
export type StreamHeaders = Readonly<Record<string, string | readonly string[] | undefined>>

const METHODS = ['GET', 'HEAD', 'POST']

/** They describe how the body travels, which is not the application's to say. */
const RESERVED = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'trailer',
  'connection',
])

/** What earlier middleware may have said of a body that is not this one. */
const STALE = ['Content-Length', 'Content-Encoding', 'Content-Range', 'ETag', 'Last-Modified', 'Trailer']

/** better-sse's own defaults, except `Connection`, which Node must decide: the client may have asked to close. */
const { Connection: _, ...DEFAULTS } = Connection.constants.RESPONSE_HEADERS

/** Throws for headers that a stream cannot have, while the response is still as it was. */
export function checkStreamHeaders(headers: StreamHeaders): void {
  if (!isPlainObject(headers)) {
    throw badOption('openSession: headers', headers, "an object such as { 'X-Request-Id': '7' }")
  }
  for (const [name, value] of Object.entries(headers)) {
    if (RESERVED.has(name.toLowerCase())) {
      throw badOption(
        `openSession: headers['${name}']`,
        value,
        'other headers: this one is decided by the stream',
      )
    }
    validateHeaderName(name)
    if (value === null) {
      throw badOption(
        `openSession: headers['${name}']`,
        value,
        'a string, or undefined to leave the header out',
      )
    }
    if (value !== undefined) for (const each of [value].flat()) validateHeaderValue(name, each)
  }
}

/**
 * Throws if the response cannot become a stream: after its headers were sent, or for a method other than GET,
 * POST and HEAD (405 with `Allow`).
 */
export function checkStreamable(req: IncomingMessage, res: ServerResponse): void {
  if (res.headersSent) throw headersSent()
  if (!METHODS.includes(req.method ?? '')) {
    throw streamError('ERR_STREAM_METHOD', `Open this stream with ${METHODS.join(', ')}.`, {
      headers: { Allow: METHODS.join(', ') },
    })
  }
}

function headersSent() {
  return streamError(
    'ERR_STREAM_HEADERS_SENT',
    'openSession was called on a response that was used already; call it once, before anything is sent',
  )
}

/**
 * Writes the head of an event stream: status 200 and our headers, whatever earlier middleware left on the
 * response. Its other headers stay, every Set-Cookie included. `no-transform` is always in Cache-Control:
 * without it a compressing middleware or proxy holds events back.
 */
export function writeStreamHead(res: ServerResponse, headers: StreamHeaders): void {
  for (const name of STALE) res.removeHeader(name)
  for (const [name, value] of Object.entries(DEFAULTS)) res.setHeader(name, value)
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined) res.removeHeader(name)
    else if (name.toLowerCase() === 'set-cookie') res.appendHeader(name, value)
    else res.setHeader(name, value)
  }
  const cacheControl = String(res.getHeader('Cache-Control') ?? 'no-store')
  if (!/(^|,)\s*no-transform\s*(,|$)/i.test(cacheControl))
    res.setHeader('Cache-Control', `${cacheControl}, no-transform`)
  // Said and not left to Node, which would leave it out for a HEAD and then close the connection, and which
  // stops chunking when the header is removed. An HTTP/1.0 client knows no chunks.
  if (res.useChunkedEncodingByDefault) res.setHeader('Transfer-Encoding', 'chunked')
  else if (res.hasHeader('Transfer-Encoding')) res.removeHeader('Transfer-Encoding')
  res.writeHead(200, 'OK')
}
