import { Readable } from 'node:stream'
import express, { type Request } from 'express'
import {
  defineEvents,
  MemoryStore,
  openSession,
  problemJson,
  type SlotStore,
  type StreamLimitOptions,
  type StreamSource,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { open } from './support/clients.js'
import { heapAfterCollection } from './support/collect-garbage.js'
import { deferred } from './support/deferred.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'

const events = defineEvents({ n: true })
const n = { event: 'n' }

/** A source that ignores its signal until it is let go, and counts how many of it run. */
class DeafSource {
  running = 0
  readonly #letGo: (() => void)[] = []

  readonly start = async function* (this: DeafSource) {
    this.running += 1
    try {
      yield n
      await new Promise<void>((resolve) => this.#letGo.push(resolve))
    } finally {
      this.running -= 1
    }
  }.bind(this)

  letGo(): void {
    for (const each of this.#letGo.splice(0)) each()
  }
}

async function serveSource(source: StreamSource, options: Partial<StreamLimitOptions> = {}, stacked = false) {
  const keyGenerator = (req: Request) => req.get('user')
  const limit = streamLimit({ keyGenerator, limit: 2, ...options })
  const outer = streamLimit({ keyGenerator: () => 'all', limit: Infinity, abandonedLimit: Infinity })
  const app = express()
  if (stacked) app.use(outer)
  app.get('/', limit, async (req, res) => {
    await streamEvents(await openSession(req, res, { events }), source)
  })
  app.use(problemJson())
  const { url } = await serve(app)
  const visit = (user = 'alice') => open(url, { headers: { user } })
  /** Opens a stream, waits until its source has begun, and leaves. */
  const visitAndLeave = async (user?: string) => {
    const client = await visit(user)
    if (client.status === 200) await client.until(() => client.events.length > 0)
    client.close()
    await client.over
    await eventually(() => limit.open === 0)
    return client
  }
  return { limit, visit, visitAndLeave }
}

test('30 times open and abort by one user leave at most limit + abandonedLimit sources running', async () => {
  const source = new DeafSource()
  const { visit, visitAndLeave } = await serveSource(source.start)
  const statuses: (number | undefined)[] = []
  for (let i = 0; i < 30; i += 1) statuses.push((await visitAndLeave()).status)
  expect(source.running).toBe(12)
  expect(statuses).toEqual([...Array(12).fill(200), ...Array(18).fill(429)])

  const refused = await visit()
  await refused.until(() => refused.text.includes('ERR_STREAM_LIMIT'))
  expect(JSON.parse(refused.text).detail).toBe(
    'The work of 12 streams that you left has not stopped yet, as it does not heed its signal (policy "sse"). Try again later.',
  )
  expect((await visit('bob')).status).toBe(200)

  source.letGo()
  await eventually(() => source.running === 0)
  expect((await visit()).status).toBe(200)
})

test('open streams count together with what was abandoned', async () => {
  const source = new DeafSource()
  const { visit, visitAndLeave } = await serveSource(source.start, { abandonedLimit: 1 })
  expect([(await visitAndLeave()).status, (await visitAndLeave()).status]).toEqual([200, 200])
  expect((await visit()).status).toBe(200)
  expect((await visit()).status).toBe(429)
  source.letGo()
})

test('streams that open at the same time do not pass it together while the store is asked', async () => {
  const source = new DeafSource()
  const slots = new MemoryStore()
  let asked = 0
  let together = 1
  let answer = deferred()
  // Answers when so many have asked as shall be decided together.
  const store: SlotStore = {
    acquire: async (key, slotId, limit) => {
      asked += 1
      if (asked === together) answer.resolve()
      await answer.promise
      return slots.acquire(key, slotId, limit)
    },
    release: (key, slotId) => slots.release(key, slotId),
    count: (key) => slots.count(key),
  }
  const { visit, visitAndLeave, limit } = await serveSource(source.start, {
    abandonedLimit: 2,
    limit: 5,
    store,
  })
  for (let i = 0; i < 6; i += 1) await visitAndLeave()
  answer = deferred()
  together = asked + 5
  const statuses = (await Promise.all(Array.from({ length: 5 }, () => visit()))).map(({ status }) => status)
  expect(statuses.toSorted()).toEqual([200, 429, 429, 429, 429])
  expect([limit.open, await limit.count('alice')]).toEqual([1, 1])
  source.letGo()
})

test.each(['iterate', 'stream'] as const)('session.%s counts as well', async (method) => {
  const source = new DeafSource()
  const limit = streamLimit({ keyGenerator: () => 'alice', limit: 1, abandonedLimit: 0 })
  const app = express()
  app.get('/', limit, async (req, res) => {
    const session = await openSession(req, res, { events })
    // Typed for streams, but better-sse takes any async iterable.
    await session[method](source.start() as never, { eventName: 'n' })
  })
  app.use(problemJson())
  const { url } = await serve(app)
  const client = await open(url)
  await client.until(() => client.events.length > 0)
  client.close()
  await eventually(() => limit.open === 0)
  expect((await open(url)).status).toBe(429)
  source.letGo()
  await eventually(async () => (await open(url)).status === 200)
})

test('a source that never settles holds neither its response nor its session nor its socket', async () => {
  const refs: WeakRef<object>[] = []
  const blocked: Promise<never>[] = []
  const limit = streamLimit({ keyGenerator: () => 'alice', limit: 5, abandonedLimit: 100 })
  const app = express()
  app.get('/', limit, async (req, res) => {
    const session = await openSession(req, res, { events })
    refs.push(...[res, session, req.socket].map((each) => new WeakRef<object>(each)))
    const { promise } = deferred()
    blocked.push(promise as Promise<never>)
    await streamEvents(session, async function* () {
      yield n
      await promise
    })
  })
  const { url } = await serve(app)
  for (let i = 0; i < 10; i += 1) {
    const client = await open(url)
    await client.until(() => client.events.length > 0)
    client.close()
    await eventually(() => limit.open === 0)
  }
  // A socket that was just closed may stay in the last frame of Node's parser.
  await eventually(() => heapAfterCollection() > 0 && refs.filter((ref) => ref.deref()).length <= 3)
  expect(blocked).toHaveLength(10)
})

test('the timer of the warning is one per limiter, keeps no process alive, and goes with the last source', async () => {
  const source = new DeafSource()
  const { visitAndLeave } = await serveSource(source.start)
  const started = jest.spyOn(globalThis, 'setTimeout')
  const stopped = jest.spyOn(globalThis, 'clearTimeout')
  await visitAndLeave()
  await visitAndLeave()
  const timers = started.mock.results.filter(
    (_, i) => Number(started.mock.calls[i]?.[1]) > 4000 && Number(started.mock.calls[i]?.[1]) <= 5000,
  )
  expect(timers).toHaveLength(1)
  const timer = timers[0]?.value as NodeJS.Timeout
  expect(timer.hasRef()).toBe(false)
  source.letGo()
  await eventually(() => stopped.mock.calls.some(([cleared]) => cleared === timer))
  jest.restoreAllMocks()
})

test('a source that heeds the signal never counts', async () => {
  const heeds = async function* (signal: AbortSignal) {
    yield n
    await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  }
  const { visitAndLeave } = await serveSource(heeds, { abandonedLimit: 0, limit: 1 })
  for (let i = 0; i < 10; i += 1) expect((await visitAndLeave()).status).toBe(200)
})

test('a page at the cap with a plain polling generator may be reloaded twice in quick succession', async () => {
  const polling = async function* () {
    for (;;) {
      yield n
      await new Promise((resolve) => setTimeout(resolve, 1000))
    }
  }
  const { visit } = await serveSource(polling, { limit: 5 })
  for (let load = 0; load < 3; load += 1) {
    const clients = await Promise.all(Array.from({ length: 5 }, () => visit()))
    expect(clients.map(({ status }) => status)).toEqual(Array(5).fill(200))
    await Promise.all(clients.map((client) => client.until(() => client.events.length > 0)))
    for (const client of clients) client.close()
  }
})

test('a promise that was yielded is outstanding until it settles', async () => {
  const settle: (() => void)[] = []
  const source = () => [n, new Promise<typeof n>((resolve) => settle.push(() => resolve(n)))]
  const { visit, visitAndLeave } = await serveSource(source, { abandonedLimit: 0, limit: 1 })
  await visitAndLeave()
  expect((await visit()).status).toBe(429)
  for (const each of settle) each()
  await eventually(async () => (await visit()).status === 200)
})

test('a return() that takes time is outstanding until it settles', async () => {
  const settle: (() => void)[] = []
  const slow = async function* (signal: AbortSignal) {
    try {
      yield n
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
    } finally {
      await new Promise<void>((resolve) => settle.push(resolve))
    }
  }
  const { visit, visitAndLeave } = await serveSource(slow, { abandonedLimit: 0, limit: 1 })
  await visitAndLeave()
  expect((await visit()).status).toBe(429)
  for (const each of settle) each()
  await eventually(async () => (await visit()).status === 200)
})

test.each<[string, () => StreamSource]>([
  [
    'a Readable whose destroy() never calls back',
    () => {
      const readable = new Readable({ objectMode: true, read() {}, destroy() {} })
      readable.push(n)
      return readable
    },
  ],
  [
    'an iterator without return()',
    () => ({ [Symbol.iterator]: () => ({ next: () => ({ done: false, value: n }) }) }),
  ],
])('%s has settled at once', async (_, make) => {
  const { visitAndLeave } = await serveSource(() => make() as never, { abandonedLimit: 0, limit: 1 })
  for (let i = 0; i < 3; i += 1) expect((await visitAndLeave()).status).toBe(200)
})

test('a web stream is outstanding until its cancel() has settled', async () => {
  const settle: (() => void)[] = []
  const source = () =>
    new ReadableStream<typeof n>({
      start: (controller) => controller.enqueue(n),
      cancel: () => new Promise<void>((resolve) => settle.push(resolve)),
    })
  const { visit, visitAndLeave } = await serveSource(source, { abandonedLimit: 0, limit: 1 })
  await visitAndLeave()
  expect((await visit()).status).toBe(429)
  for (const each of settle) each()
  await eventually(async () => (await visit()).status === 200)
})

test('stacked limiters count a source once each', async () => {
  const source = new DeafSource()
  const { visitAndLeave } = await serveSource(source.start, { abandonedLimit: 3, limit: 1 }, true)
  const statuses: (number | undefined)[] = []
  for (let i = 0; i < 6; i += 1) statuses.push((await visitAndLeave()).status)
  expect(statuses).toEqual([200, 200, 200, 200, 429, 429])
  source.letGo()
})

test('a source that goes on for 5 s is warned of, once per limiter', async () => {
  const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const source = new DeafSource()
  const { visitAndLeave } = await serveSource(source.start)
  await visitAndLeave()
  await visitAndLeave()
  await eventually(() => warn.mock.calls.length > 0)
  await visitAndLeave()
  source.letGo()
  await eventually(() => source.running === 0)
  expect(warn.mock.calls).toEqual([
    [
      expect.stringContaining('pass the signal on'),
      expect.objectContaining({ code: 'ERR_STREAM_ABANDONED' }),
    ],
  ])
  warn.mockRestore()
})

test.each([-1, 1.5, '5', Number.NaN])('abandonedLimit may not be %p', (abandonedLimit) => {
  expect(() => streamLimit({ keyGenerator: () => 'a', abandonedLimit: abandonedLimit as number })).toThrow(
    'streamLimit: abandonedLimit is',
  )
})
