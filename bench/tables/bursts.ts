import type { Scenario, Settings } from '../lib/scenario.js'
import { sendingEvents } from './sending-events.js'
import { betterSse, fastifySse, guardEvents, guardPush, hono, nodeHttp } from './subjects.js'

/** 64 events that are there at once, as when a model answers faster than the event loop turns. */
export function bursts({ isQuick }: Settings): Scenario[] {
  return [
    { streams: 1, ticks: isQuick ? 40 : 150 },
    { streams: 100, ticks: isQuick ? 1 : 3 },
  ].map(({ streams, ticks }) => ({
    title: `bursts of 64 events, ${streams} ${streams === 1 ? 'stream' : 'streams'}`,
    unit: 'us of CPU per event',
    subjects: [guardEvents, guardPush, betterSse, fastifySse, hono, nodeHttp],
    comparisons: [
      [guardPush.name, betterSse.name],
      [guardEvents.name, betterSse.name],
      [guardEvents.name, fastifySse.name],
      [guardEvents.name, hono.name],
      [guardPush.name, nodeHttp.name],
    ],
    ...sendingEvents({ streams, ticks, perTick: 64 }),
  }))
}
