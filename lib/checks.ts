/** Whether a value is an integer >= 0 or Infinity: how many of something there may be. */
export function isLimit(value: unknown): value is number {
  return value === Infinity || (Number.isSafeInteger(value) && (value as number) >= 0)
}

/**
 * Whether a value is an object of no class, as `{}` makes it. By the shape of its prototype chain and not by identity,
 * as it may come from another realm.
 */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

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

/** Whether a value is a number of milliseconds that a timer can wait: an integer from 1 to 2147483647. */
export function isTimerMs(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 2 ** 31 - 1
}
