import type { IncomingMessage } from 'node:http'

/** A URL without a query, for better-sse: Last-Event-ID comes from the header only, and padding is not supported. */
export const NO_QUERY = Object.freeze({
  searchParams: Object.freeze({ get: () => null, has: () => false }),
})

/**
 * The part of a fetch Request that better-sse's Session reads when it is constructed. A real one costs more than the rest
 * of the session, so `session.getRequest()` makes it only when asked.
 *
 * @param setOnAbort is given the session's one 'abort' listener, and undefined when it is taken back.
 */
export function createRequestView(req: IncomingMessage, setOnAbort: (listener?: () => void) => void) {
  return {
    headers: {
      get(name: string): string | null {
        const value = req.headers[name.toLowerCase()]
        return value === undefined ? null : decodeUtf8(String(value))
      },
    },
    signal: {
      addEventListener: (_type: string, listener: () => void) => setOnAbort(listener),
      removeEventListener: () => setOnAbort(),
    },
  }
}

/**
 * EventSource sends the id as UTF-8 (WHATWG HTML 9.2.4), and Node reads header bytes as Latin-1. A value that is not UTF-8
 * stays as Node read it.
 */
function decodeUtf8(value: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(value, 'latin1'))
  } catch {
    return value
  }
}
