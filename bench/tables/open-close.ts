import type { Scenario, Settings } from '../lib/scenario.js'
import {
  bareExpress,
  betterSse,
  fastifySse,
  guardEvents,
  guardPush,
  hono,
  nodeHttp,
  streaming,
} from './subjects.js'

/** A stream opens and the client leaves as soon as the head is there. */
export function openClose({ isQuick }: Settings): Scenario[] {
  const times = isQuick ? 100 : 150
  return [
    {
      title: 'open and close',
      unit: 'us of CPU per stream',
      subjects: streaming,
      comparisons: [
        [guardEvents.name, bareExpress.name],
        [guardPush.name, bareExpress.name],
        [guardEvents.name, betterSse.name],
        [guardPush.name, betterSse.name],
        [guardEvents.name, fastifySse.name],
        [guardEvents.name, hono.name],
        [bareExpress.name, nodeHttp.name],
      ],
      prepare: (subject) => subject.openAndLeave(isQuick ? 300 : 1_000),
      measure: async (subject) => (await subject.cpuOf(() => subject.openAndLeave(times))) / times,
      // With no stream open: it looks whether each that was left has also gone.
      finish: (subject) => subject.close(),
    },
  ]
}
