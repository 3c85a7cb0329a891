import { isPromise } from '../checks.js'
import { messageOf } from '../errors.js'
import { warn } from '../warnings.js'

/**
 * Calls something of the application's whose failure must not reach the caller, such as `onWithhold` after a push into a
 * Channel. A throw or a rejection goes to `onFailure`.
 */
export function callSafely(call: () => unknown, onFailure: (error: unknown) => void): void {
  try {
    const result = call()
    if (isPromise(result)) result.then(undefined, onFailure)
  } catch (error) {
    onFailure(error)
  }
}

/** Makes an `onFailure` that warns once, with `process.emitWarning`. */
export function createFailureWarning(what: string): (error: unknown) => void {
  let hasWarned = false
  return (error) => {
    if (hasWarned) return
    hasWarned = true
    warn(`${what} threw: ${messageOf(error)}. This is said once per session.`)
  }
}
