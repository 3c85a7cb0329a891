// The server of one variant: node server-process.ts variants/express '{}'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { OpenStreams } from './open-streams.js'
import { serveParent } from './remote-process.js'
import type { Variant, VariantOptions } from './variant.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const [module, options = '{}'] = process.argv.slice(2)
const { variant } = (await import(`../${module}.ts`)) as { variant: Variant }
const streams = new OpenStreams()
const running = await variant.start(streams, JSON.parse(options) as VariantOptions)

const methods = {
  describe: () => ({
    port: running.port,
    eventName: variant.eventName,
    ownEvents: variant.ownEvents ?? [],
  }),
  send: (ticks: number, perTick: number) => streams.send(ticks, perTick),
  nextIndex: () => streams.nextIndex,
  countStreams: () => running.countStreams?.() ?? streams.size,
  countSlots: () => running.countSlots?.(),
  /** The CPU time of this process so far, user and system, all threads, in microseconds. */
  cpu: () => {
    const { user, system } = process.cpuUsage()
    return user + system
  },
  heap: () => {
    collectGarbage()
    collectGarbage()
    return process.memoryUsage().heapUsed
  },
}
export type ServerMethods = typeof methods

serveParent(methods)
