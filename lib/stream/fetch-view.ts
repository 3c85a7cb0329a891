import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { http2StreamOf } from '../http2-stream.js'

/**
 * A fetch Request that says what a node:http request said. No part of a request can make it throw: what a Request cannot
 * hold is left out.
 *
 * @param signal aborts when the response closes.
 */
export function toFetchRequest(req: IncomingMessage, res: ServerResponse, signal: AbortSignal): Request {
  return new Request(absoluteUrlOf(req, res), {
    method: req.method ?? 'GET',
    headers: toHeaders(req.headers),
    signal,
  })
}

/** A fetch Response with the status and the headers of a response, without a body: that is written elsewhere. */
export function toFetchResponse(res: ServerResponse): Response {
  return new Response(null, { status: res.statusCode, headers: toHeaders(res.getHeaders()) })
}

function toHeaders(from: OutgoingHttpHeaders): Headers {
  const headers = new Headers()
  for (const [name, values] of Object.entries(from)) {
    // HTTP/2 pseudo-headers, such as `:path`.
    if (name.startsWith(':')) continue
    for (const value of [values ?? []].flat()) {
      try {
        headers.append(name, String(value))
      } catch {
        // A parser that is more lenient than fetch let it through.
      }
    }
  }
  return headers
}

/** A host and maybe a port, and no credentials or path, which would make another URL of it. */
const HOST = /^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i

function absoluteUrlOf(req: IncomingMessage & { originalUrl?: string }, res: ServerResponse): URL {
  const path = pathOf(req.originalUrl ?? req.url ?? '/')
  const host = req.headers.host ?? req.headers[':authority']
  const socket = http2StreamOf(res)?.session?.socket ?? req.socket
  const scheme = (socket as Partial<TLSSocket> | null)?.encrypted ? 'https' : 'http'
  try {
    if (typeof host === 'string' && HOST.test(host)) return new URL(`${scheme}://${host}${path}`)
  } catch {
    // Such as a port above 65535.
  }
  return new URL(`http://localhost${path}`)
}

/** A target may be an absolute URL (RFC 9112 section 3.2.2), with credentials, which a Request refuses. */
function pathOf(target: string): string {
  if (target.startsWith('/')) return target
  try {
    const { pathname, search } = new URL(target)
    return `${pathname.startsWith('/') ? '' : '/'}${pathname}${search}`
  } catch {
    return '/'
  }
}
