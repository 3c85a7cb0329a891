/**
 * Warns whoever runs the application, with `process.emitWarning`.
 *
 * @param code what the warning is about, for whoever listens to 'warning'. Default: none.
 */
export function warn(message: string, code?: string): void {
  process.emitWarning(message, { type: 'StreamGuardWarning', ...(code && { code }) })
}
