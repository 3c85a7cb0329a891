import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { streamSSE } from 'hono/streaming'
import { serveHttp, type Variant } from '../lib/variant.js'

/** Hono's streamSSE on @hono/node-server. */
export const variant: Variant = {
  eventName: 'token',
  start(streams) {
    const app = new Hono()
    app.get('/stream', (context) =>
      streamSSE(context, async (stream) => {
        const feed = streams.feed()
        stream.onAbort(() => feed.end())
        for await (const { event, data } of feed) await stream.writeSSE({ event, data: JSON.stringify(data) })
      }),
    )
    return serveHttp(getRequestListener(app.fetch))
  },
}
