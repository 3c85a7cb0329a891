import type { IncomingMessage } from 'node:http'

/** A URL without a query, for better-sse: Last-Event-ID comes from the header only, and nobody asks for padding. */
export const NO_QUERY = Object.freeze({
  searchParams: Object.freeze({ get: () => null, has: () => false }),
})

/**
 * The part of a fetch Request that a better-sse session reads, straight from a node:http request: no part of a
 * request can make it throw. `session.getRequest()` returns it.
 *
 * @param setOnAbort is given the session's one 'abort' listener, and undefined when it is taken back.
 */
export function createRequestView(req: IncomingMessage, setOnAbort: (listener?: () => void) => void) {
  return {
    method: req.method,
    url: req.url,
    headers: {
      get(name: string): string | null {
        const value = req.headers[name.toLowerCase()]
        if (value === undefined) return null
        return name === 'last-event-id' ? decodeLastEventId(String(value)) : String(value)
      },
    },
    signal: {
      addEventListener: (_type: string, listener: () => void) => setOnAbort(listener),
      removeEventListener: () => setOnAbort(),
    },
  }
}

/**
 * EventSource sends the id as UTF-8 (WHATWG HTML 9.2.4), and Node reads header bytes as Latin-1. A value that
 * is no UTF-8 stays as Node read it.
 */
function decodeLastEventId(value: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(value, 'latin1'))
  } catch {
    return value
  }
}
