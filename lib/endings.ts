import type { ServerResponse } from 'node:http'
import { destroyResponse } from './response-close.js'

/**
 * The endings that come from the server, and whether the client is to come back: `'retryable'` it is, `'terminal'` it is not.
 */
const ENDINGS = {
  /** The socket accepted no byte for `stallTimeoutMs`. */
  stalled: 'retryable',
  /** The slot went to another stream of the same user. */
  evicted: 'terminal',
  /** All streams of the user were ended. */
  kicked: 'terminal',
} as const satisfies Record<string, 'retryable' | 'terminal'>

/** Why a stream was ended by the server. */
export type EndReason = keyof typeof ENDINGS

/** Whether the client is not to come back. */
export function isTerminal(reason: EndReason): boolean {
  return ENDINGS[reason] === 'terminal'
}

/** Under this key a response keeps its {@link Termination}. `Symbol.for`, as the package may be loaded twice. */
const TERMINATION = Symbol.for('express-sse-guard.termination')

interface Termination {
  /** Set once: the first reason stays. */
  reason?: EndReason
  /** The session's, once it is open. */
  listener?: (reason: EndReason) => void
}

function terminationOf(res: ServerResponse): Termination {
  const marked = res as { [TERMINATION]?: Termination }
  marked[TERMINATION] ??= {}
  return marked[TERMINATION]
}

/**
 * Ends the stream on a response from outside: here the limiter, which knows why, meets the session, which knows how. A
 * response that no session has taken is destroyed, since its slot is gone. Twice it does nothing.
 */
export function terminate(res: ServerResponse, reason: EndReason): void {
  const termination = terminationOf(res)
  if (termination.reason) return
  termination.reason = reason
  if (!termination.listener) return destroyResponse(res.req, res)
  try {
    termination.listener(reason)
  } catch {
    // Middleware that wraps `res.end` threw. The response has ended all the same, and nobody is left to tell.
  }
}

/** Calls `listener` instead of destroying the response when its stream is terminated; at once if it has been. */
export function onTerminate(res: ServerResponse, listener: (reason: EndReason) => void): void {
  const termination = terminationOf(res)
  termination.listener = listener
  if (termination.reason) listener(termination.reason)
}
