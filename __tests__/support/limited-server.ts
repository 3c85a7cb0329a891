import express, { type Request } from 'express'
import {
  defineEvents,
  openSession,
  problemJson,
  type StreamLimitOptions,
  type StreamResult,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { open } from './clients.js'
import { serve } from './server.js'
import { untilAborted } from './sources.js'

export const events = defineEvents({ hello: true })

/** A server whose /events stay open under one limiter, with what became of each stream. */
export async function serveLimited(options: Partial<StreamLimitOptions>) {
  const limit = streamLimit({ keyGenerator: (req: Request) => req.get('user'), ...options })
  const results: StreamResult[] = []
  const app = express()
  app.get('/events', limit, async (req, res) => {
    results.push(await streamEvents(await openSession(req, res, { events }), untilAborted))
  })
  // Its slot is taken, and no session opens.
  app.get('/silent', limit, () => {})
  app.use(problemJson())
  const { url, port } = await serve(app)
  const visit = (user = 'alice') => open(`${url}/events`, { headers: { user } })
  return { app, url, port, limit, results, visit }
}
