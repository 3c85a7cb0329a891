import type { Scenario, Settings } from '../lib/scenario.js'
import { guardAnswer, nodeHttpAnswer } from './subjects.js'

/** One answer whose tokens are there as soon as they are asked for, from the request to the end of the response. */
export function longAnswer({ isQuick }: Settings): Scenario[] {
  const tokens = isQuick ? 20_000 : 100_000
  const options = { tokens }
  return [
    {
      title: `an answer of ${tokens} tokens`,
      unit: 'us of CPU per token',
      subjects: [
        { ...guardAnswer, options },
        { ...nodeHttpAnswer, options },
      ],
      comparisons: [[guardAnswer.name, nodeHttpAnswer.name]],
      measure: async (subject) => (await subject.cpuOf(() => subject.readAnswer(tokens))) / tokens,
    },
  ]
}
