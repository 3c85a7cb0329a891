import type { Application, NextFunction, Request, Response } from 'express'
import { defineEvents, openSession, problemJson, streamEvents, streamLimit } from 'express-sse-guard'
import express4 from 'express4'
import supertest from 'supertest'
import { open } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'
import { untilAborted } from './support/sources.js'

const events = defineEvents({ n: true })

/** What the README says of Express 4, which does not forward the rejection of an async handler. */
const forward =
  (handler: (req: Request, res: Response) => Promise<unknown>) =>
  (req: Request, res: Response, next: NextFunction) =>
    handler(req, res).catch(next)

function createApp(handler: (req: Request, res: Response) => Promise<unknown>) {
  const app = express4() as unknown as Application
  const limit = streamLimit({ keyGenerator: (req) => req.get('user'), limit: 1 })
  app.get('/', limit, forward(handler))
  app.use(problemJson())
  return { app, limit }
}

test('a stream opens, a second one is refused, and the slot comes back', async () => {
  const { app, limit } = createApp(async (req, res) =>
    streamEvents(await openSession(req, res, { events }), untilAborted),
  )
  const { url } = await serve(app)
  const client = await open(url, { headers: { user: 'alice' } })
  const refused = await supertest(url).get('/').set('user', 'alice')
  expect([client.status, refused.status, refused.body.code]).toEqual([200, 429, 'ERR_STREAM_LIMIT'])
  expect((await supertest(url).get('/')).status).toBe(401)
  client.close()
  await eventually(() => limit.open === 0)
})

test('what a stream rejects with reaches the error handler', async () => {
  const { app } = createApp((req, res) => openSession(req, res, {} as never))
  const { status, text } = await supertest(app).get('/').set('user', 'alice')
  expect([status, text]).toEqual([500, expect.stringContaining('openSession needs a whitelist')])
})

test('a limiter that is made inside a handler is warned of', async () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { app } = createApp(async (_req, res) => {
    streamLimit({ keyGenerator: () => 'alice' })
    res.end()
  })
  await supertest(app).get('/').set('user', 'alice')
  expect(warn).toHaveBeenCalledWith(
    expect.stringContaining('while a request was being handled'),
    expect.anything(),
  )
  warn.mockRestore()
})

test.each([
  [
    'throws',
    () => {
      throw new Error('handler failed')
    },
  ],
  [
    'rejects',
    async () => {
      throw new Error('handler failed')
    },
  ],
])('a handler of the limiter that %s reaches the error handler', async (_, handler) => {
  const app = express4() as unknown as Application
  app.get('/', streamLimit({ limit: 0, keyGenerator: () => 'alice', handler }))
  app.use(((error: Error, _req: Request, res: Response, _next: NextFunction) => {
    res.status(500).send(error.message)
  }) as never)
  const { status, text } = await supertest(app).get('/')
  expect([status, text]).toEqual([500, 'handler failed'])
})
