import { availableParallelism, cpus } from 'node:os'
import type { Samples, Scenario, Settings } from './scenario.js'
import { type Quartiles, quartilesOf, ratiosOf } from './statistics.js'

/** Two subjects of a scenario, compared. */
interface Comparison {
  ours: string
  theirs: string
  ratio: Quartiles
  /** The median of each generation. */
  generations: number[]
}

export function compare(samples: Samples, ours: string, theirs: string): Comparison {
  const oursByGeneration = samplesOf(samples, ours)
  const theirsByGeneration = samplesOf(samples, theirs)
  const ratios = oursByGeneration.map((figures, index) =>
    ratiosOf(figures, theirsByGeneration[index] as number[]),
  )
  return {
    ours,
    theirs,
    ratio: quartilesOf(ratios.flat()),
    generations: ratios.map((each) => quartilesOf(each).median),
  }
}

/** The median of all rounds of a subject. */
function figureOf(samples: Samples, name: string): number {
  return quartilesOf(samplesOf(samples, name).flat()).median
}

/** As Markdown, so that it can be copied. */
export function reportOf({ title, unit, comparisons, subjects }: Scenario, samples: Samples): string {
  const rows = comparisons.map(([ours, theirs]) => {
    const { ratio, generations } = compare(samples, ours, theirs)
    const quartiles = `${ratio.lower.toFixed(2)} to ${ratio.upper.toFixed(2)}`
    const medians = generations.map((each) => each.toFixed(2)).join(', ')
    return `| ${ours} / ${theirs} | ${ratio.median.toFixed(2)} | ${quartiles} | ${medians} |`
  })
  const figures = subjects.map(({ name }) => `${name} ${figureOf(samples, name).toFixed(2)}`)
  return [
    `| ${title} | ratio | quartiles | each generation |`,
    '|---|---|---|---|',
    ...rows,
    '',
    `${unit}: ${figures.join(', ')}`,
    '',
  ].join('\n')
}

export function headingOf({ generations, rounds, isQuick }: Settings): string {
  const cores = availableParallelism()
  const note = isQuick ? '; quick: not for comparing' : ''
  return `Node ${process.version}, ${cores} x ${cpus()[0]?.model}; ${generations} generations of ${rounds} rounds${note}\n`
}

function samplesOf(samples: Samples, name: string): number[][] {
  const figures = samples.get(name)
  if (!figures) throw new Error(`Nothing was measured under the name ${name}`)
  return figures
}
