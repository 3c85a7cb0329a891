import type { Session } from 'better-sse'
import express, { type RequestHandler, type Response } from 'express'
import { defineEvents, openSession, streamEvents, streamLimit } from 'express-sse-guard'
import { open } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'

const events = defineEvents({ n: true })
const n = (data: unknown) => ({ event: 'n', data })

/** Middleware that wraps a method of the response, and throws in it from the given call on. */
function failIn(method: 'write' | 'flushHeaders', from = 1): RequestHandler {
  return (_req, res, next) => {
    const wrapped = res[method] as (...args: unknown[]) => unknown
    let calls = 0
    const failing = (...args: unknown[]) => {
      calls += 1
      if (calls >= from) throw new Error(`in ${method}`)
      return wrapped.apply(res, args)
    }
    Object.assign(res, { [method]: failing })
    next()
  }
}

/** What would end the process: errors that nobody could catch. */
const uncaught: unknown[] = []
const nextTick = process.nextTick

beforeEach(() => {
  uncaught.length = 0
  jest.spyOn(process, 'nextTick').mockImplementation((run, ...args) =>
    nextTick(() => {
      try {
        run(...args)
      } catch (error) {
        uncaught.push(error)
      }
    }),
  )
})

afterEach(() => {
  jest.restoreAllMocks()
  expect(uncaught).toEqual([])
})

async function serveThrough(middleware: RequestHandler, use: (session: Session, res: Response) => unknown) {
  const limit = streamLimit({ keyGenerator: () => 'alice' })
  const outcomes: unknown[] = []
  const app = express()
  app.get('/', limit, middleware, async (req, res) => {
    try {
      const session = await openSession(req, res, { events, keepAlive: null })
      outcomes.push(await use(session, res))
    } catch (error) {
      outcomes.push(error)
    }
  })
  const { url } = await serve(app)
  return { url, limit, outcomes }
}

const forever = async function* () {
  for (;;) {
    yield n(1)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

test('write that throws at the first call makes openSession reject, and the slot comes back', async () => {
  const { url, limit, outcomes } = await serveThrough(failIn('write'), () => 'opened')
  await (await open(url)).over
  await eventually(() => outcomes.length === 1 && limit.open === 0)
  expect(outcomes).toEqual([new Error('in write')])
})

test('flushHeaders that throws makes openSession reject, and the slot comes back', async () => {
  const app = express()
  const limit = streamLimit({ keyGenerator: () => 'alice' })
  const outcomes: unknown[] = []
  app.get('/', limit, failIn('flushHeaders'), async (req, res) => {
    outcomes.push(await openSession(req, res, { events, retry: null }).catch((error) => error))
  })
  const { url } = await serve(app)
  await (await open(url)).over
  await eventually(() => outcomes.length === 1 && limit.open === 0)
  expect(outcomes).toEqual([new Error('in flushHeaders')])
})

test.each([2, 3, 10])(
  'write that throws at call %d makes streamEvents reject, once the response has closed',
  async (from) => {
    const { url, limit, outcomes } = await serveThrough(failIn('write', from), (session) =>
      streamEvents(session, forever),
    )
    const client = await open(url)
    await client.over
    await eventually(() => outcomes.length === 1)
    expect(outcomes).toEqual([new Error('in write')])
    expect(limit.open).toBe(0)
  },
)

test('write that throws at the very end makes streamEvents reject', async () => {
  const { url, limit, outcomes } = await serveThrough(failIn('write', 2), (session) =>
    streamEvents(session, [n(1)]),
  )
  await (await open(url)).over
  await eventually(() => outcomes.length === 1 && limit.open === 0)
  expect(outcomes).toEqual([new Error('in write')])
})

test('write that throws after a push ends the session with a warning', async () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { url, limit, outcomes } = await serveThrough(failIn('write', 2), async (session) => {
    session.push(1, 'n')
    await new Promise((resolve) => session.once('disconnected', resolve as () => void))
    return session.isConnected
  })
  await (await open(url)).over
  await eventually(() => outcomes.length === 1 && limit.open === 0)
  expect(outcomes).toEqual([false])
  expect(warn.mock.calls).toEqual([[expect.stringContaining('in write'), expect.anything()]])
})

test('write that throws when the application ends the response does not keep the response open', async () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { url, limit } = await serveThrough(failIn('write', 2), (session, res) => {
    session.push(1, 'n')
    res.end()
  })
  await (await open(url)).over
  await eventually(() => limit.open === 0)
  expect(warn).toHaveBeenCalledTimes(1)
})
