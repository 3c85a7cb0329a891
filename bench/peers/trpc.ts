import { initTRPC } from '@trpc/server'
import { createExpressMiddleware } from '@trpc/server/adapters/express'
import express from 'express'
import { serveHttp, type Variant } from '../lib/variant.js'

/** A subscription of tRPC over SSE, on Express. */
export const variant: Variant = {
  // Its events have no name.
  eventName: 'message',
  ownEvents: ['connected'],
  start(streams) {
    const { procedure, router } = initTRPC.create()
    const stream = procedure.subscription(async function* ({ signal }) {
      for await (const { data } of streams.feed(signal)) yield data
    })
    const app = express()
    app.use(createExpressMiddleware({ router: router({ stream }) }))
    return serveHttp(app)
  },
}
