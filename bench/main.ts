// `npm run bench -- one-event`: see README.md in this folder.
import { parseArgs } from 'node:util'
import { headingOf, reportOf } from './lib/report.js'
import { runScenario, type Scenario, type Settings } from './lib/scenario.js'
import { oneEvent } from './tables/one-event.js'
import { openClose } from './tables/open-close.js'

const TABLES: Record<string, (settings: Settings) => Scenario[]> = {
  'open-close': openClose,
  'one-event': oneEvent,
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false } },
})
const settings: Settings = values.quick
  ? { generations: 1, rounds: 8, warmUp: 3, isQuick: true }
  : { generations: 3, rounds: 20, warmUp: 5, isQuick: false }

const names = positionals.length > 0 ? positionals : Object.keys(TABLES)
for (const name of names) {
  if (!TABLES[name])
    throw new Error(`No table is called ${name}; there are ${Object.keys(TABLES).join(', ')}`)
}
console.log(headingOf(settings))
for (const name of names) {
  for (const scenario of TABLES[name]?.(settings) ?? []) {
    console.log(reportOf(scenario, await runScenario(scenario, settings)))
  }
}
