export interface Quartiles {
  lower: number
  median: number
  upper: number
}

/** Between two samples it is interpolated. */
export function quartilesOf(numbers: readonly number[]): Quartiles {
  if (numbers.length === 0) throw new Error('No numbers to take quartiles of')
  const sorted = numbers.toSorted((a, b) => a - b)
  const at = (part: number): number => {
    const place = part * (sorted.length - 1)
    const below = sorted[Math.floor(place)] as number
    const above = sorted[Math.ceil(place)] as number
    return below + (above - below) * (place - Math.floor(place))
  }
  return { lower: at(0.25), median: at(0.5), upper: at(0.75) }
}

/** The ratio of each round: what slows the machine for longer than a round is in both of its parts. */
export function ratiosOf(numerators: readonly number[], denominators: readonly number[]): number[] {
  if (numerators.length !== denominators.length) throw new Error('Rounds are not in pairs')
  return numerators.map((numerator, round) => numerator / (denominators[round] as number))
}

/** The items in an order that starts one further with each round, so that none always runs behind the same other. */
export function rotated<T>(items: readonly T[], round: number): T[] {
  const start = round % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}
