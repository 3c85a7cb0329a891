import { rotated } from './statistics.js'
import { type ReaderProcess, Subject, type SubjectConfig, startReader } from './subject.js'

/** One thing that is measured, for several subjects. */
export interface Scenario {
  title: string
  /** What a figure is per: `us of CPU per event`. */
  unit: string
  subjects: readonly SubjectConfig[]
  /** Whose figures are divided by whose, by their names. */
  comparisons: readonly (readonly [ours: string, theirs: string])[]
  /** Rounds of each generation. Default: those of the settings. */
  rounds?: number
  /** Rounds before these that do not count: code is compiled, sockets are warm. Default: those of the settings. */
  warmUp?: number
  /** Once in each generation. */
  prepare?(subject: Subject): Promise<void>
  /** One round: the figure per operation. */
  measure(subject: Subject): Promise<number>
  /** After the last round of a generation. */
  finish?(subject: Subject): Promise<void>
}

export interface Settings {
  /** How many times it is all done again with fresh processes, as code is not compiled the same way each time. */
  generations: number
  rounds: number
  warmUp: number
  /** Few streams and short rounds, while one works on the benchmark. */
  isQuick: boolean
  /** Where the servers leave CPU profiles. Profiling has a cost of its own, so the figures are then none. */
  profileDir?: string
}

/** For each subject, by its name: a list for each generation, of its figure in each round. */
export type Samples = Map<string, number[][]>

/** The scenario with some of its subjects, those of these names; with all if none are given. */
export function only(scenario: Scenario, names: readonly string[] | undefined): Scenario {
  if (!names) return scenario
  return {
    ...scenario,
    subjects: scenario.subjects.filter(({ name }) => names.includes(name)),
    comparisons: scenario.comparisons.filter((pair) => pair.every((name) => names.includes(name))),
  }
}

export async function runScenario(scenario: Scenario, settings: Settings): Promise<Samples> {
  const samples: Samples = new Map(scenario.subjects.map(({ name }) => [name, []]))
  for (let generation = 0; generation < settings.generations; generation += 1) {
    for (const [name, figures] of await runGeneration(scenario, settings)) samples.get(name)?.push(figures)
  }
  return samples
}

async function runGeneration(scenario: Scenario, settings: Settings): Promise<Map<string, number[]>> {
  const { rounds = settings.rounds, warmUp = settings.warmUp } = scenario
  const reader = startReader()
  const subjects: Subject[] = []
  try {
    for (const config of scenario.subjects) subjects.push(await startSubject(config, reader, settings))
    for (const subject of subjects) await scenario.prepare?.(subject)
    const figures = new Map<string, number[]>(subjects.map(({ name }) => [name, []]))
    for (let round = -warmUp; round < rounds; round += 1) {
      for (const subject of rotated(subjects, round + warmUp)) {
        const figure = await named(subject.name, scenario.measure(subject))
        if (round >= 0) figures.get(subject.name)?.push(figure)
      }
    }
    for (const subject of subjects) await named(subject.name, scenario.finish?.(subject))
    return figures
  } finally {
    await Promise.all([reader, ...subjects].map((process) => process.stop()))
  }
}

async function startSubject(
  config: SubjectConfig,
  reader: ReaderProcess,
  { profileDir }: Settings,
): Promise<Subject> {
  return named(config.name, Subject.start(config, reader, profileDir))
}

/** An error says whose it is. */
async function named<T>(name: string, work: Promise<T> | undefined): Promise<T> {
  try {
    return (await work) as T
  } catch (error) {
    throw new Error(`${name}: ${(error as Error).message}`, { cause: error })
  }
}
