import { createSession } from 'better-sse'
import express from 'express'
import { serveHttp, type Variant } from '../lib/variant.js'

/** Better-sse on Express, with `session.push`. */
export const variant: Variant = {
  eventName: 'token',
  start(streams, { keepAliveMs }) {
    const options = keepAliveMs === undefined ? {} : { keepAlive: keepAliveMs }
    const app = express()
    app.get('/stream', async (req, res) => {
      const session = await createSession(req, res, options)
      res.once(
        'close',
        streams.add(({ event, data }) => session.push(data, event)),
      )
    })
    return serveHttp(app)
  },
}
