import { possibleStreams } from '../lib/file-limit.js'
import type { Scenario, Settings } from '../lib/scenario.js'
import type { Subject } from '../lib/subject.js'
import { bareExpress, betterSse, guardEvents, guardPush } from './subjects.js'

/** Streams that are open and get no events. */
export function idleHeap({ isQuick }: Settings): Scenario[] {
  const streams = possibleStreams(isQuick ? 2_000 : 10_000)
  return [
    {
      title: `heap of each of ${streams} idle streams`,
      unit: 'KB of heap per stream',
      subjects: [guardEvents, guardPush, betterSse, bareExpress],
      comparisons: [
        [guardEvents.name, betterSse.name],
        [guardPush.name, betterSse.name],
        [guardEvents.name, bareExpress.name],
      ],
      rounds: 1,
      warmUp: 0,
      // What is made once, such as compiled code, is no stream's.
      prepare: (subject) => subject.openAndLeave(1_000),
      measure: (subject) => heapPerStream(subject, streams),
    },
  ]
}

async function heapPerStream(subject: Subject, streams: number): Promise<number> {
  const before = await subject.heap()
  await subject.open(streams)
  const bytes = (await subject.heap()) - before
  await subject.close()
  return bytes / streams / 1_000
}
