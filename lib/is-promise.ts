/** Whether a value must be awaited. What is here already is used at once, so that a synchronous store costs no tick. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  )
}
