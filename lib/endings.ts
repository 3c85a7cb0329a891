import type { ServerResponse } from 'node:http'
import { destroyResponse } from './response-close.js'

/**
 * Why a stream was ended from outside: its slot went to somebody else (`'evicted'`), or somebody ended all streams of
 * its user (`'kicked'`).
 */
export type EndReason = 'evicted' | 'kicked'

/** Under this key a response keeps its reason and who listens. `Symbol.for`, as the package may be loaded twice. */
const ENDING = Symbol.for('express-sse-guard.streamEnd')

interface Ending {
  reason?: EndReason
  listener?: () => void
}

function endingOf(res: ServerResponse): Ending {
  const marked = res as { [ENDING]?: Ending }
  marked[ENDING] ??= {}
  return marked[ENDING]
}

/**
 * Ends the stream on a response: here the limiter, which knows why, meets the session, which knows how. A response
 * that no session has taken (yet) is destroyed, since its slot is gone. The first reason stays.
 */
export function terminate(res: ServerResponse, reason: EndReason): void {
  const ending = endingOf(res)
  if (ending.reason) return
  ending.reason = reason
  if (ending.listener) {
    try {
      ending.listener()
    } catch {
      // Middleware that wraps `res.end` threw. The response has ended all the same, and nobody is left to tell.
    }
  } else destroyResponse(res.req, res)
}

/** Why the stream on a response was ended from outside, if it was. */
export function endReasonOf(res: ServerResponse): EndReason | undefined {
  return endingOf(res).reason
}

/** Calls `listener` instead of destroying the response when its stream is to end. */
export function onTerminate(res: ServerResponse, listener: () => void): void {
  endingOf(res).listener = listener
}
