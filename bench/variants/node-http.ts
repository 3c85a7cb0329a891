import { serveHttp, type Variant } from '../lib/variant.js'
import { writeFrames } from './write-frames.js'

/** Raw node:http. `Connection: close`, as ours. */
export const variant: Variant = {
  eventName: 'token',
  start: (streams) => serveHttp((_req, res) => writeFrames(res, streams)),
}
