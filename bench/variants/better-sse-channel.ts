import { createChannel, createSession } from 'better-sse'
import express from 'express'
import { serveHttp, type Variant } from '../lib/variant.js'

/** A better-sse Channel over better-sse's own sessions. */
export const variant: Variant = {
  eventName: 'token',
  async start(streams) {
    const channel = createChannel()
    streams.add(({ event, data }) => channel.broadcast(data, event))
    const app = express()
    app.get('/stream', async (req, res) => {
      channel.register(await createSession(req, res))
    })
    return { ...(await serveHttp(app)), countStreams: () => channel.sessionCount }
  },
}
