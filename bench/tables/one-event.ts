import type { Scenario, Settings } from '../lib/scenario.js'
import { sendingEvents } from './sending-events.js'
import {
  betterSse,
  expressSse,
  fastifySse,
  guardEvents,
  guardPush,
  hono,
  nodeHttp,
  nodeNet,
  streaming,
  trpc,
} from './subjects.js'

/** One small event per tick. */
export function oneEvent({ isQuick }: Settings): Scenario[] {
  return [
    { streams: 1, ticks: isQuick ? 1_000 : 3_000 },
    { streams: 100, ticks: isQuick ? 20 : 60 },
  ].map(({ streams, ticks }) => ({
    title: `one event per tick, ${streams} ${streams === 1 ? 'stream' : 'streams'}`,
    unit: 'us of CPU per event',
    subjects: streaming,
    comparisons: [
      [guardEvents.name, betterSse.name],
      [guardPush.name, betterSse.name],
      [guardEvents.name, fastifySse.name],
      [guardEvents.name, hono.name],
      [guardEvents.name, expressSse.name],
      [guardEvents.name, trpc.name],
      [guardEvents.name, nodeHttp.name],
      [guardEvents.name, nodeNet.name],
    ],
    ...sendingEvents({ streams, ticks, perTick: 1 }),
  }))
}
