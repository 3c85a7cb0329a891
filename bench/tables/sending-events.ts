import type { Scenario } from '../lib/scenario.js'

/** A scenario whose streams stay open and whose rounds send so many events to each. */
export function sendingEvents(load: {
  streams: number
  ticks: number
  perTick: number
}): Pick<Scenario, 'prepare' | 'measure' | 'finish'> {
  const { streams, ticks, perTick } = load
  return {
    prepare: (subject) => subject.open(streams),
    measure: async (subject) =>
      (await subject.cpuOf(() => subject.sendEvents(ticks, perTick))) / (streams * ticks * perTick),
    finish: (subject) => subject.close(),
  }
}
