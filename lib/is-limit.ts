/** Whether a value is an integer >= 0 or Infinity: how many of something there may be. */
export function isLimit(value: unknown): value is number {
  return value === Infinity || (Number.isSafeInteger(value) && (value as number) >= 0)
}
