import { isPromise } from '../checks.js'
import { messageOf } from '../errors.js'
import { type FrameResult, frameEvent, type WithholdReason } from '../events/frame-event.js'
import { warn } from '../warnings.js'
import { callSafely, createFailureWarning } from './call-safely.js'
import type { SessionContext } from './session-context.js'
import { withoutRejection } from './source.js'

/**
 * The text of the event by which `onError` tells the viewer that a stream has failed; empty if there is none, or it is
 * withheld. Never throws or rejects.
 */
export function lastTextOf(
  { connection, rules }: SessionContext,
  onError: () => unknown,
  onWithhold: (event: unknown, reason: WithholdReason) => unknown,
): string | Promise<string> {
  if (!connection.isWritable) return ''
  let event: unknown
  try {
    event = onError()
  } catch (thrown) {
    warn(`onError of streamEvents threw: ${messageOf(thrown)}. The viewer is told nothing.`)
  }
  if (event === undefined) return ''
  // An async onError: what it returns is withheld as invalid, and its rejection is nobody's.
  withoutRejection(event)
  const toText = (result: FrameResult | undefined) => {
    if (result?.ok) return result.frame.text
    if (result) callSafely(() => onWithhold(event, result.reason), createFailureWarning('onWithhold'))
    return ''
  }
  const framing = frameEvent(rules, event)
  if (!isPromise(framing)) return toText(framing)
  // An async schema that never answers must not keep the response of a client that has left.
  return new Promise<FrameResult | undefined>((resolve) => {
    framing.then(resolve)
    connection.onEnd(() => resolve(undefined))
  }).then(toText)
}
