import type { IncomingMessage, ServerResponse } from 'node:http'
import { isPromise } from '../checks.js'
import { badOption, streamError } from '../errors.js'
import type { WithholdReason } from '../events/frame-event.js'
import type { CompiledRules } from '../events/viewer-events.js'
import type { Connection } from '../wire/connection.js'

/**
 * Called for each withheld event with the event as the application gave it, and why. For the server's log: the
 * event has not been checked.
 *
 * A throw, or the rejection of a promise that it returns, rejects `streamEvents`, which waits for that promise. After a
 * `session.push` it is warned of with `process.emitWarning`, once per session: an exception would keep a Channel's event
 * from all sessions that come later.
 */
export type OnWithhold = (event: unknown, why: WithholdReason) => void

/** @throws TypeError for an `onWithhold` that cannot be called. */
export function checkOnWithhold(where: string, onWithhold: unknown): void {
  if (onWithhold === undefined || typeof onWithhold === 'function') return
  throw badOption(`${where}: onWithhold`, onWithhold, 'a function (event, why) => void, or leave it out')
}

/** What stands between a session and the wire. */
export interface SessionContext {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly connection: Connection
  readonly rules: CompiledRules
  readonly onWithhold: OnWithhold | undefined
}

/** Where a session keeps its context. `Symbol.for`, as the package may be loaded twice. */
export const SESSION_CONTEXT = Symbol.for('express-sse-guard.sessionContext')

/** @throws ERR_STREAM_NO_WHITELIST for a session that `openSession` did not make. */
export function sessionContextOf(session: unknown): SessionContext {
  const context = (session as { [SESSION_CONTEXT]?: SessionContext } | null | undefined)?.[SESSION_CONTEXT]
  if (context) return context
  if (isPromise(session)) {
    throw noWhitelist(
      'streamEvents was given the promise of a session; await openSession(req, res, { events })',
    )
  }
  throw noWhitelist(
    'streamEvents was given a session without a whitelist; get one from openSession(req, res, { events })',
  )
}

export function noWhitelist(message: string) {
  return streamError('ERR_STREAM_NO_WHITELIST', message)
}
