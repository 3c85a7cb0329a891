import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as (options: { type: 'minor' }) => void

/** One of the two that are compared. */
export interface Contender {
  /** Not timed: puts things as `run` needs them. */
  prepare?: () => void | Promise<void>
  /** Does the work of one round, and throws when an answer is wrong. */
  run: () => Promise<void>
}

export interface Comparison {
  /** How many operations a round is, for the figures per operation. */
  operations: number
  rounds: number
  ours: Contender
  bare: Contender
  /** The CPU time of redis-server so far, in microseconds. */
  redisCpu: () => Promise<number>
}

/** What ours takes for each unit that the bare one takes; and microseconds per operation. */
export interface Result {
  ratio: Quartiles
  ours: number
  bare: number
}

interface Quartiles {
  lower: number
  median: number
  upper: number
}

/** In microseconds. `node` is the CPU of this process, user and system, all threads. */
interface Usage {
  wall: number
  node: number
  redis: number
}

/** A tenth of the rounds goes first and is thrown away: code is compiled, scripts are loaded, sockets are warm. */
const WARM_UP = 0.1

/**
 * Runs both in each round, in an order that a coin decides, and takes the ratio of each round: what slows the machine
 * for longer than a round slows both, and of the rest the median is free.
 */
export async function pairedRounds(comparison: Comparison): Promise<Record<keyof Usage, Result>> {
  const { ours, bare, rounds, operations, redisCpu } = comparison
  const taken: { ours: Usage; bare: Usage }[] = []
  const warmUp = Math.ceil(rounds * WARM_UP)
  for (let round = -warmUp; round < rounds; round += 1) {
    let usageOfBare = Math.random() < 0.5 ? await measure(bare, redisCpu) : undefined
    const usageOfOurs = await measure(ours, redisCpu)
    usageOfBare ??= await measure(bare, redisCpu)
    if (round >= 0) taken.push({ ours: usageOfOurs, bare: usageOfBare })
  }
  const resultOf = (kind: keyof Usage): Result => ({
    ratio: quartiles(taken.map((round) => round.ours[kind] / round.bare[kind])),
    ours: quartiles(taken.map((round) => round.ours[kind])).median / operations,
    bare: quartiles(taken.map((round) => round.bare[kind])).median / operations,
  })
  return { wall: resultOf('wall'), node: resultOf('node'), redis: resultOf('redis') }
}

async function measure({ prepare, run }: Contender, redisCpu: () => Promise<number>): Promise<Usage> {
  await prepare?.()
  const redisBefore = await redisCpu()
  // The garbage of the one must not be collected at the cost of the other.
  collectGarbage({ type: 'minor' })
  const cpuBefore = process.cpuUsage()
  const before = performance.now()
  await run()
  const wall = (performance.now() - before) * 1000
  const { user, system } = process.cpuUsage(cpuBefore)
  return { wall, node: user + system, redis: (await redisCpu()) - redisBefore }
}

function quartiles(numbers: number[]): Quartiles {
  const sorted = numbers.toSorted((a, b) => a - b)
  const at = (part: number) => sorted[Math.round(part * (sorted.length - 1))] as number
  return { lower: at(0.25), median: at(0.5), upper: at(0.75) }
}
