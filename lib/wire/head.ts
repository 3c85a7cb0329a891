import { type IncomingMessage, type ServerResponse, validateHeaderName, validateHeaderValue } from 'node:http'
import { Connection } from 'better-sse'
import { isPlainObject } from '../checks.js'
import { badOption, streamError } from '../errors.js'
import { http2StreamOf } from '../http2-stream.js'

type HeaderValue = string | readonly string[] | undefined

/** Extra response headers: a value, several, or undefined to leave out one that would be sent by default. */
export type StreamHeaders = Readonly<Record<string, HeaderValue>>

const METHODS = ['GET', 'HEAD', 'POST']

/** They describe how the body travels, which the stream decides. */
const RESERVED = new Set(['content-length', 'content-encoding', 'transfer-encoding', 'trailer'])

/** Values that are allowed of a header, and how to say so. An event stream is always UTF-8 (WHATWG HTML 9.2.5). */
const RESTRICTED = new Map([
  [
    'content-type',
    {
      allowed: /^text\/event-stream(?:\s*;\s*charset="?utf-8"?)?$/i,
      instead: "'text/event-stream' or 'text/event-stream; charset=utf-8'",
    },
  ],
  [
    'connection',
    {
      allowed: /^(?:close|keep-alive)$/i,
      instead: "'close', 'keep-alive', or undefined to let Node decide",
    },
  ],
])

/** HTTP/2 knows neither these (RFC 9113 section 8.2.2) nor status messages. */
const OF_THE_CONNECTION = new Set(['keep-alive', 'proxy-connection', 'upgrade', 'http2-settings', 'te'])

/** What earlier middleware may have said of a body that is not this one. */
const STALE = ['Content-Length', 'Content-Encoding', 'Content-Range', 'ETag', 'Last-Modified', 'Trailer']

/** better-sse's own defaults, except `Connection`, see {@link writeConnectionHeader}. */
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
    const restricted = RESTRICTED.get(name.toLowerCase())
    if (restricted && value !== undefined && !(typeof value === 'string' && restricted.allowed.test(value))) {
      throw badOption(`openSession: headers['${name}']`, value, restricted.instead)
    }
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

/** Under this key a response says that a session has it. `Symbol.for`, as the package may be loaded twice. */
const TAKEN = Symbol.for('express-sse-guard.taken')

/** @throws ERR_STREAM_HEADERS_SENT for a response that another `openSession` has taken, and that may wait for its turn. */
export function markAsTaken(res: ServerResponse): void {
  const marked = res as { [TAKEN]?: boolean }
  if (marked[TAKEN]) throw headersSent()
  marked[TAKEN] = true
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
export function writeHead(req: IncomingMessage, res: ServerResponse, headers: StreamHeaders): void {
  for (const name of STALE) res.removeHeader(name)
  for (const [name, value] of Object.entries(DEFAULTS)) res.setHeader(name, value)
  const isHttp2 = http2StreamOf(res) !== undefined
  let connection: HeaderValue = req.method === 'GET' ? 'close' : undefined
  for (const [name, value] of Object.entries(headers)) {
    if (name.toLowerCase() === 'connection') connection = value
    else if (isHttp2 && OF_THE_CONNECTION.has(name.toLowerCase())) continue
    else if (value === undefined) res.removeHeader(name)
    else if (name.toLowerCase() === 'set-cookie') res.appendHeader(name, value)
    else res.setHeader(name, value)
  }
  const cacheControl = String(res.getHeader('Cache-Control') ?? 'no-store')
  if (!/(^|,)\s*no-transform\s*(,|$)/i.test(cacheControl))
    res.setHeader('Cache-Control', `${cacheControl}, no-transform`)
  if (isHttp2) return void res.writeHead(200)
  writeConnectionHeader(req, res, connection)
  // Said and not left to Node, which would leave it out for a HEAD and then close the connection, and which
  // stops chunking when the header is removed. An HTTP/1.0 client knows no chunks.
  if (res.useChunkedEncodingByDefault) res.setHeader('Transfer-Encoding', 'chunked')
  else if (res.hasHeader('Transfer-Encoding')) res.removeHeader('Transfer-Encoding')
  res.writeHead(200, 'OK')
}

/**
 * A GET closes its connection by default. Chromium reads on from a response that its page has left, for 5 s, in order to
 * use the connection again, and until then the slot stays held; it does not for a connection that is going to close.
 */
function writeConnectionHeader(req: IncomingMessage, res: ServerResponse, value: HeaderValue): void {
  if (value === undefined || req.method === 'HEAD') return
  // A client that asked to close, or that speaks HTTP/1.0, would be told otherwise; Node knows what to say.
  if (/^keep-alive$/i.test(String(value)) && !res.shouldKeepAlive) return
  res.setHeader('Connection', value)
}
