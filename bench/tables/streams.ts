import type { Scenario, Settings } from '../lib/scenario.js'
import { sendingEvents } from './sending-events.js'
import { betterSse, expressSse, fastifySse, guardEvents, guardPush, hono, nodeHttp } from './subjects.js'

/** What the figure in the docs divides by. */
export const BASE = nodeHttp.name

/** From one stream to many, with one event per tick: what the figure in the docs shows. */
export function streams({ isQuick }: Settings): (Scenario & { streams: number })[] {
  const share = isQuick ? 3 : 1
  return [
    { streams: 1, ticks: 3_000 },
    { streams: 10, ticks: 600 },
    { streams: 100, ticks: 60 },
    { streams: 1_000, ticks: 9 },
  ].map(({ streams, ticks }) => ({
    streams,
    title: `one event per tick, streams: ${streams}`,
    unit: 'us of CPU per event',
    subjects: [guardEvents, guardPush, betterSse, fastifySse, hono, expressSse, nodeHttp],
    comparisons: [guardEvents, guardPush, betterSse, fastifySse, hono, expressSse].map(
      ({ name }) => [name, BASE] as const,
    ),
    ...sendingEvents({ streams, ticks: ticks / share, perTick: 1 }),
  }))
}
