import { possibleStreams } from '../lib/file-limit.js'
import type { Scenario, Settings } from '../lib/scenario.js'
import type { Subject } from '../lib/subject.js'
import { guardEvents } from './subjects.js'

/** Keep-alive comments to those that are open anyway would be counted as the cost of opening. */
const options = { keepAliveMs: 3_600_000 }

/** A stream opens and closes on a server that has many others open. */
export function manyOpen({ isQuick }: Settings): Scenario[] {
  const many = possibleStreams(isQuick ? 2_000 : 10_000)
  const few = 100
  const times = isQuick ? 100 : 200
  const names = [`with ${many} open`, `with ${few} open`] as const
  const openBefore = new Map<string, number>([
    [names[0], many],
    [names[1], few],
  ])
  return [
    {
      title: 'open and close, many open',
      unit: 'us of CPU per stream',
      subjects: names.map((name) => ({ ...guardEvents, name, options })),
      comparisons: [names],
      prepare: async (subject: Subject) => {
        const open = openBefore.get(subject.name) as number
        // Both have answered as many requests, so that the code of both is compiled.
        await subject.openAndLeave(many - open)
        await subject.open(open)
        // What is left to collect of the opening is no part of what follows.
        await subject.heap()
      },
      measure: async (subject: Subject) => (await subject.cpuOf(() => subject.openAndLeave(times))) / times,
      finish: (subject: Subject) => subject.close(),
    },
  ]
}
