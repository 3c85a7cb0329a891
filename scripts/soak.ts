import { churn } from '../__tests__/support/churn.js'

// `npm run soak [minutes] [seed]`: the random churn of the tests, for longer. Fails if anything was wrong.

const minutes = Number(process.argv[2] ?? 10)
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000)
if (!(minutes > 0) || !Number.isInteger(seed))
  throw new Error('Type npm run soak -- <minutes> <seed>, such as 10 1')

const started = performance.now()
const log = (line: string) => console.log(`${((performance.now() - started) / 1000).toFixed(0)} s: ${line}`)
console.log(`Churn for ${minutes} minutes, seed ${seed}`)
const { settledMs, ...figures } = await churn({ durationMs: minutes * 60_000, seed, log })
const sorted = settledMs.sort((a, b) => a - b)
const at = (part: number) => sorted[Math.floor((sorted.length - 1) * part)]
// Some always fail: they were opened at a process that had just been killed.
console.log({ ...figures, settledMs: { times: sorted.length, median: at(0.5), most: at(1) } })
process.exitCode = figures.wrong.length > 0 ? 1 : 0
