import type { IncomingMessage, ServerResponse } from 'node:http'
import { Connection } from 'better-sse'
import { badOption, streamError } from '../errors.js'

/** Extra response headers: a value, several, or undefined to leave out one that would be sent by default. */
export type StreamHeaders = Readonly<Record<string, string | readonly string[] | undefined>>

const METHODS = ['GET', 'HEAD', 'POST']

/** They describe how the body travels, which is not the application's to say. */
const RESERVED = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'connection',
])

/** What earlier middleware may have said of a body that is not this one. */
const STALE = [
  'Content-Length',
  'Content-Encoding',
  'Content-Range',
  'Transfer-Encoding',
  'ETag',
  'Last-Modified',
]

/** better-sse's own defaults, except `Connection`, which Node must decide: the client may have asked to close. */
const { Connection: _, ...DEFAULTS } = Connection.constants.RESPONSE_HEADERS

/** Throws for headers that a stream cannot have, before anything is sent. */
export function checkStreamHeaders(headers: StreamHeaders): void {
  for (const name of Object.keys(headers)) {
    if (RESERVED.has(name.toLowerCase())) {
      throw badOption(
        `openSession: headers['${name}']`,
        headers[name],
        'other headers: this one is decided by the stream',
      )
    }
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

export function headersSent() {
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
export function writeStreamHead(req: IncomingMessage, res: ServerResponse, headers: StreamHeaders): void {
  // Removing a Transfer-Encoding that is not there switches chunking off.
  for (const name of STALE) if (res.hasHeader(name)) res.removeHeader(name)
  for (const [name, value] of Object.entries(DEFAULTS)) res.setHeader(name, value)
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined) res.removeHeader(name)
    else if (name.toLowerCase() === 'set-cookie') res.appendHeader(name, value)
    else res.setHeader(name, value)
  }
  const cacheControl = String(res.getHeader('Cache-Control') ?? 'no-store')
  if (!/\bno-transform\b/i.test(cacheControl)) res.setHeader('Cache-Control', `${cacheControl}, no-transform`)
  // Node would otherwise announce no body to a HEAD, and close the connection after it.
  if (req.method === 'HEAD' && res.useChunkedEncodingByDefault) res.setHeader('Transfer-Encoding', 'chunked')
  res.writeHead(200, 'OK')
}
