import express from 'express'
import { serveHttp, type Variant } from '../lib/variant.js'
import { writeFrames } from './write-frames.js'

/** Bare Express: no library, no limit, no check. `Connection: close`, as ours. */
export const variant: Variant = {
  eventName: 'token',
  start(streams) {
    const app = express()
    app.get('/stream', (_req, res) => writeFrames(res, streams))
    return serveHttp(app)
  },
}
