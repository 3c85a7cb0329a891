import express, { type Handler } from 'express'
import { defineEvents, type OpenSessionOptions, streamLimit } from 'express-sse-guard'
import { z } from 'zod'
import { type RunningVariant, serveHttp, type VariantOptions } from '../lib/variant.js'

/** Everything on, as the README has it: the limiter, a schema; cancellation and stall detection need no option. */
export async function serveGuarded(
  { keepAliveMs }: VariantOptions,
  handlerWith: (options: OpenSessionOptions) => Handler,
): Promise<RunningVariant> {
  const limit = streamLimit({
    keyGenerator: (req) => req.headers['x-user'] as string | undefined,
    limit: 5,
    capacity: 20_000,
  })
  const events = defineEvents({ token: z.object({ index: z.number(), text: z.string() }) })
  const options = { events, ...(keepAliveMs !== undefined && { keepAlive: keepAliveMs }) }
  const app = express()
  app.get('/stream', limit, handlerWith(options))
  return { ...(await serveHttp(app)), countSlots: () => limit.open }
}
