import express from 'express'
import SSE from 'express-sse'
import { serveHttp, type Variant } from '../lib/variant.js'

/** The package express-sse, with an instance for each stream. */
export const variant: Variant = {
  eventName: 'token',
  start(streams) {
    const app = express()
    app.get('/stream', (req, res) => {
      const sse = new SSE()
      sse.init(req, res)
      res.once(
        'close',
        streams.add(({ event, data }) => sse.send(data, event)),
      )
    })
    return serveHttp(app)
  },
}
