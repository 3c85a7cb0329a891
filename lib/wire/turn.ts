import type { IncomingMessage, ServerResponse } from 'node:http'
import { isResponseClosed, onResponseClose } from '../response-close.js'

/**
 * Reads the rest of a body that nobody reads. Otherwise Node stops reading from the socket, and does not see the
 * client leave until a write fails.
 */
export function readBody(req: IncomingMessage): void {
  const hasBody =
    req.headers['content-length'] !== undefined ||
    req.headers['transfer-encoding'] !== undefined ||
    // Where neither is needed (RFC 9113 section 8.1.1).
    req.httpVersionMajor === 2
  if (hasBody && req.readableFlowing === null) req.resume()
}

/**
 * Waits until a response that is pipelined behind another has its turn, so that whatever is written afterwards leaves at once.
 * The wait ends as well when the socket closes, when somebody ends the response, or when `stop` is called: ask then whether it
 * is closed.
 */
export function waitForTurn(
  req: IncomingMessage,
  res: ServerResponse,
): { turn: Promise<void>; stop: () => void } {
  let stop = () => {}
  const turn = new Promise<void>((resolve) => {
    if (res.socket !== null || isResponseClosed(req, res)) return resolve()
    const { end } = res
    const done = () => {
      res.removeListener('socket', done)
      stopListening()
      if (res.end === endsWait) res.end = end
      resolve()
    }
    const stopListening = onResponseClose(req, res, done)
    const endsWait = ((...args: unknown[]) => {
      done()
      return (end as (...args: unknown[]) => typeof res).apply(res, args)
    }) as typeof res.end
    res.once('socket', done)
    res.end = endsWait
    stop = done
  })
  return { turn, stop: () => stop() }
}
