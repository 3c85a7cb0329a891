import type { IncomingMessage } from 'node:http'

/**
 * What the client says it saw last. The client can write anything there. EventSource sends the id as UTF-8 (WHATWG HTML
 * 9.2.4), and Node reads header bytes as Latin-1; a value that is not UTF-8 stays as Node read it.
 */
export function lastEventIdOf(req: IncomingMessage): string {
  const value = String(req.headers['last-event-id'] ?? '')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is the same in both.
  if (/^[\x00-\x7f]*$/.test(value)) return value
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(value, 'latin1'))
  } catch {
    return value
  }
}
