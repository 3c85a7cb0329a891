import type { Scenario, Settings } from '../lib/scenario.js'
import { sendingEvents } from './sending-events.js'
import { betterSseChannel, guardChannel } from './subjects.js'

/** One better-sse Channel that broadcasts to 1,000 streams. */
export function channel({ isQuick }: Settings): Scenario[] {
  return [
    { perTick: 1, ticks: isQuick ? 5 : 20 },
    { perTick: 8, ticks: isQuick ? 2 : 5 },
  ].map(({ perTick, ticks }) => ({
    title: `Channel with 1,000 streams, ${perTick} per tick`,
    unit: 'us of CPU per event and stream',
    subjects: [guardChannel, betterSseChannel],
    comparisons: [[guardChannel.name, betterSseChannel.name]],
    ...sendingEvents({ streams: 1_000, ticks, perTick }),
  }))
}
