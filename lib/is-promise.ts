/**
 * Whether a value must be awaited. What is here already is used at once, so that a synchronous store costs no tick.
 * Never throws: what cannot be asked (a revoked Proxy, a getter that throws) is no promise.
 */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  if (typeof value !== 'object' || value === null) return false
  try {
    return typeof (value as { then?: unknown }).then === 'function'
  } catch {
    return false
  }
}
