// `npm run bench -- one-event`: see README.md in this folder.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { lineChart } from './lib/line-chart.js'
import { checkOneCopy } from './lib/one-copy.js'
import { compare, headingOf, reportOf } from './lib/report.js'
import { only, runScenario, type Samples, type Scenario, type Settings } from './lib/scenario.js'
import { bursts } from './tables/bursts.js'
import { channel } from './tables/channel.js'
import { idleHeap } from './tables/idle-heap.js'
import { keepAlive } from './tables/keep-alive.js'
import { longAnswer } from './tables/long-answer.js'
import { manyOpen } from './tables/many-open.js'
import { oneEvent } from './tables/one-event.js'
import { openClose } from './tables/open-close.js'
import { BASE, streams } from './tables/streams.js'

const TABLES: Record<string, (settings: Settings) => Scenario[]> = {
  'open-close': openClose,
  'one-event': oneEvent,
  bursts,
  channel,
  'idle-heap': idleHeap,
  'keep-alive': keepAlive,
  'long-answer': longAnswer,
  'many-open': manyOpen,
}

const USAGE = `npm run bench -- [--quick] [--rounds 15] [--only "streamEvents,better-sse"] [--cpu-prof folder] [table ...]
Tables: ${Object.keys(TABLES).join(', ')}; all of them unless named.
npm run bench -- svg draws docs/bench-streams.svg.`

async function main(): Promise<void> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      only: { type: 'string' },
      'cpu-prof': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const unknown = positionals.filter((name) => name !== 'svg' && !TABLES[name])
  if (values.help || unknown.length > 0) return console.log(USAGE)

  const settings: Settings = values.quick
    ? { generations: 1, rounds: 8, warmUp: 3, isQuick: true }
    : { generations: 3, rounds: 15, warmUp: 4, isQuick: false }
  if (values['cpu-prof']) settings.profileDir = values['cpu-prof']
  if (values.rounds) settings.rounds = Number(values.rounds)
  checkOneCopy()
  console.log(headingOf(settings))
  for (const name of positionals.length > 0 ? positionals : Object.keys(TABLES)) {
    if (name === 'svg') await draw(settings)
    for (const scenario of TABLES[name]?.(settings) ?? []) {
      await measure(only(scenario, values.only?.split(',')), settings)
    }
  }
}

async function measure(scenario: Scenario, settings: Settings): Promise<Samples> {
  const samples = await runScenario(scenario, settings)
  console.log(reportOf(scenario, samples))
  return samples
}

async function draw(settings: Settings): Promise<void> {
  const scenarios = streams(settings)
  const samples: Samples[] = []
  for (const scenario of scenarios) samples.push(await measure(scenario, settings))
  const names = scenarios[0]?.comparisons.map(([name]) => name) ?? []
  const svg = lineChart({
    title: 'CPU of the server for one small event',
    yTitle: `one event per tick to each stream; ${BASE} by hand = 1`,
    xTitle: 'open streams',
    xLabels: scenarios.map(({ streams }) => streams.toLocaleString('en')),
    lines: names.map((name) => ({
      name,
      values: samples.map((each) => compare(each, name, BASE).ratio.median),
    })),
  })
  writeFileSync(new URL('../docs/bench-streams.svg', import.meta.url), svg)
}

await main()
