import { warn } from './warn.js'

/** What has been said already: the same call may come with each request. */
const warnedOf = new Set<string>()

/**
 * Warns, with `process.emitWarning` and once for each name, of options that have no effect: misspelt ones, such as
 * `keepalive`, and those of other packages, such as `max`, which is express-rate-limit's older name for `limit`.
 *
 * @param known every option that there is.
 */
export function warnOfUnknownOptions<Options>(
  where: string,
  options: object,
  known: Readonly<Record<keyof Options, true>>,
): void {
  for (const name in options) {
    if (Object.hasOwn(known, name)) continue
    const warning = `${where} has no option ${name}; it was ignored. It has ${Object.keys(known).join(', ')}.`
    if (warnedOf.has(warning)) continue
    warnedOf.add(warning)
    warn(warning)
  }
}
