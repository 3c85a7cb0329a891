import type { Scenario, Settings } from '../lib/scenario.js'
import type { Subject } from '../lib/subject.js'
import { betterSse, guardEvents, guardPush } from './subjects.js'

/** So often that there is something to measure. */
const options = { keepAliveMs: 50 }

/** Keep-alive comments to streams that get nothing else. */
export function keepAlive({ isQuick }: Settings): Scenario[] {
  const streams = 200
  return [
    {
      title: `keep-alive comment, ${streams} idle streams`,
      unit: 'us of CPU per comment',
      subjects: [guardEvents, guardPush, betterSse].map((subject) => ({ ...subject, options })),
      comparisons: [
        [guardEvents.name, betterSse.name],
        [guardPush.name, betterSse.name],
      ],
      rounds: isQuick ? 5 : 10,
      warmUp: 2,
      measure: (subject) => cpuPerComment(subject, streams, isQuick ? 5 : 10),
    },
  ]
}

/** Opens the streams anew, as no other server is to write while one is measured. */
async function cpuPerComment(subject: Subject, streams: number, perStream: number): Promise<number> {
  await subject.open(streams)
  let comments = 0
  const cpu = await subject.cpuOf(async () => {
    comments = await subject.readComments(perStream)
  })
  await subject.close()
  return cpu / comments
}
