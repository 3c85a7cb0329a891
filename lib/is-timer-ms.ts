/** Whether a value is a number of milliseconds that a timer can wait: an integer from 1 to 2147483647. */
export function isTimerMs(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 2 ** 31 - 1
}
