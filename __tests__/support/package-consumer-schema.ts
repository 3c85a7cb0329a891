// The program of a user who describes events with schemas, compiled against the packed package.
import { defineEvents, type ViewerEvent } from 'express-sse-guard'
import { z } from 'zod'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

const events = defineEvents({
  'build.progress': z.object({ percent: z.number().transform((value) => `${value} %`) }),
  'build.done': ['url'],
  clock: true,
})
type Arriving = ViewerEvent<typeof events>

export const names: Same<Arriving['event'], 'build.progress' | 'build.done' | 'clock'> = true
export const data: Same<Extract<Arriving, { event: 'build.progress' }>['data'], { percent: string }> = true

export function show(arriving: Arriving): unknown {
  switch (arriving.event) {
    case 'build.progress':
      return arriving.data.percent.length
    case 'build.done':
      return arriving.data.url
    case 'clock':
      return arriving.id
  }
}
