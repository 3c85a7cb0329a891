import { badOption, inspectValue } from './errors.js'

/**
 * Throws for an option that does not exist, and names the one that was probably meant: a misspelt option has no effect,
 * and one that limits or hides something must not be without effect.
 *
 * @param known every option that there is.
 * @param otherNames what other packages call an option, or how they do what it does: other name -> option.
 * @throws TypeError if `options` is not an object, or has a name that is not known. An `undefined` value counts too.
 */
export function checkOptionNames<Options>(
  where: string,
  options: unknown,
  known: Readonly<Record<keyof Options, true>>,
  otherNames: Readonly<Record<string, string>> = {},
): asserts options is Options {
  const names = Object.keys(known)
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw badOption(`${where}: options`, options, `an object with options such as ${names[0]}`)
  }
  for (const name in options) {
    if (Object.hasOwn(known, name)) continue
    const meant = Object.hasOwn(otherNames, name) ? otherNames[name] : nearest(name, names)
    const advice = meant === undefined ? '.' : `; did you mean ${meant}?`
    const message = `${where} has no option ${inspectValue(name)}${advice} Its options are ${names.join(', ')}.`
    throw Object.assign(new TypeError(message), { code: 'ERR_STREAM_BAD_OPTION' })
  }
}

/** The name that needs the fewest edits, if these are few enough for a slip of the fingers. */
function nearest(name: string, names: readonly string[]): string | undefined {
  const longer = name.length >= 4 && names.find((other) => other.toLowerCase().startsWith(name.toLowerCase()))
  if (longer) return longer
  const distances = names.map((other) => editDistance(name.toLowerCase(), other.toLowerCase()))
  const least = Math.min(...distances)
  return least <= Math.max(2, name.length / 3) ? names[distances.indexOf(least)] : undefined
}

/** Levenshtein: how many characters must be added, removed or replaced to make one text of the other. */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= to.length; column += 1) {
      const replaced = (previous[column - 1] as number) + (from[row - 1] === to[column - 1] ? 0 : 1)
      current[column] = Math.min(
        replaced,
        (previous[column] as number) + 1,
        (current[column - 1] as number) + 1,
      )
    }
    previous = current
  }
  return previous[to.length] as number
}
