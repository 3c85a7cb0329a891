import { once } from 'node:events'
import type { Server } from 'node:http'
import { inspect } from 'node:util'
import express, { type ErrorRequestHandler, type Request } from 'express'
import {
  defineEvents,
  type Grant,
  MemoryStore,
  openSession,
  problemJson,
  type SlotStore,
  type StreamLimitOptions,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import supertest from 'supertest'
import { get, open, type RawClient, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'
import { never } from './support/sources.js'

const events = defineEvents({ hello: true })
const keyGenerator = (req: Request) => req.get('user')

/** An app whose GET and POST /events stay open, under one limiter, with what its error handler saw. */
function createApp(options: Partial<StreamLimitOptions> = {}) {
  const app = express()
  const limit = streamLimit({ keyGenerator, ...options })
  const errors: (Error & { code?: string; status?: number })[] = []
  const handled: string[] = []
  app.use('/events', limit)
  app.all('/events', async (req, res) => {
    handled.push(req.method)
    const session = await openSession(req, res, { events })
    await streamEvents(session, never)
  })
  app.use(((error, _req, _res, next) => {
    errors.push(error)
    next(error)
  }) satisfies ErrorRequestHandler)
  app.use(problemJson())
  app.use(((error, _req, res, _next) => {
    res.status(error.status ?? 500).json({ code: error.code })
  }) satisfies ErrorRequestHandler)
  return { app, limit, errors, handled }
}

const as = (user: string) => ({ headers: { user } })

describe('the cap', () => {
  test('counts streams while they are open: 1, 2, then 0', async () => {
    const { app, limit } = createApp()
    const { url } = await serve(app)
    const first = await open(`${url}/events`, as('alice'))
    expect([await limit.count('alice'), limit.open]).toEqual([1, 1])
    const second = await open(`${url}/events`, { ...as('alice'), method: 'POST' })
    expect([await limit.count('alice'), limit.open]).toEqual([2, 2])
    first.close()
    second.close()
    await eventually(() => limit.open === 0)
    expect(await limit.count('alice')).toBe(0)
  })

  test('refuses the sixth stream of a user before any byte of it, and leaves the five alone', async () => {
    const { app, limit, handled } = createApp()
    const { url } = await serve(app)
    const held = await Promise.all(Array.from({ length: 5 }, () => open(`${url}/events`, as('alice'))))
    const refused = await supertest(url).get('/events').set('user', 'alice')
    expect(refused.status).toBe(429)
    expect(refused.type).toBe('application/problem+json')
    expect(refused.body).toEqual({
      type: 'about:blank',
      title: 'Too Many Requests',
      status: 429,
      detail: 'You have 5 of 5 allowed streams open (policy "sse"). Close one, then try again.',
      code: 'ERR_STREAM_LIMIT',
    })
    expect(refused.headers['ratelimit-policy']).toBe('"sse";q=5;qu="concurrent-requests"')
    expect(refused.headers.ratelimit).toBe('"sse";r=0')
    expect(refused.headers['cache-control']).toBe('no-store')
    expect([await limit.count('alice'), limit.open, handled.length]).toEqual([5, 5, 5])
    expect(held.every((client) => !client.response.closed)).toBe(true)
  })

  test('lets a freed slot be taken again', async () => {
    const { app, limit } = createApp({ limit: 1 })
    const { url } = await serve(app)
    const first = await open(`${url}/events`, as('alice'))
    expect((await open(`${url}/events`, as('alice'))).status).toBe(429)
    first.close()
    await eventually(() => limit.open === 0)
    expect((await open(`${url}/events`, as('alice'))).status).toBe(200)
  })

  test('of one user does not affect another', async () => {
    const { app } = createApp({ limit: 1 })
    const { url } = await serve(app)
    const statuses = []
    for (const user of ['alice', 'alice', 'bob', 'bob']) {
      statuses.push((await open(`${url}/events`, as(user))).status)
    }
    expect(statuses).toEqual([200, 429, 200, 429])
  })

  test.each(['with an immediate store', 'with a store that answers later'])(
    'admits exactly N of K simultaneous opens %s',
    async (kind) => {
      const { app, limit } = createApp({ store: kind.endsWith('later') ? laterStore() : new MemoryStore() })
      const { url } = await serve(app)
      const clients = await Promise.all(Array.from({ length: 60 }, () => open(`${url}/events`, as('alice'))))
      const statuses = clients.map((client) => client.status)
      expect(statuses.filter((status) => status === 200)).toHaveLength(5)
      expect(statuses.filter((status) => status === 429)).toHaveLength(55)
      expect(await limit.count('alice')).toBe(5)
    },
  )

  test('may be 0, which refuses everybody, or Infinity', async () => {
    const closed = await supertest(createApp({ limit: 0 }).app)
      .get('/events')
      .set('user', 'alice')
    expect([closed.status, closed.body.detail]).toEqual([
      429,
      'You may not open a stream here (policy "sse").',
    ])
    const unlimited = await serve(createApp({ limit: Infinity }).app)
    for (let i = 0; i < 8; i++) expect((await open(`${unlimited.url}/events`, as('alice'))).status).toBe(200)
  })

  test('may depend on the request, at once or later', async () => {
    const limit: StreamLimitOptions['limit'] = (req) => (req.get('user') === 'pro' ? Promise.resolve(2) : 1)
    const { url } = await serve(createApp({ limit }).app)
    const statuses = []
    for (const user of ['free', 'free', 'pro', 'pro', 'pro']) {
      statuses.push((await open(`${url}/events`, as(user))).status)
    }
    expect(statuses).toEqual([200, 429, 200, 200, 429])
  })

  test.each([Number.NaN, -1, 1.5, '5', undefined, null])('from a function must not be %p', async (value) => {
    const { app, limit, errors } = createApp({ limit: () => value as number })
    const response = await supertest(app).get('/events').set('user', 'alice')
    expect([response.status, response.body.code]).toEqual([500, 'ERR_STREAM_BAD_LIMIT'])
    expect(errors[0]?.message).toMatch(/^limit\(\) returned .*; return an integer >= 0 or Infinity$/)
    expect([limit.open, await limit.count('alice')]).toEqual([0, 0])
  })

  test('from a function that is a whole plan is refused without its content', async () => {
    const { app, errors } = createApp({ limit: () => ({ price: 'secret' }) as never })
    await supertest(app).get('/events').set('user', 'alice')
    expect(errors[0]?.message).toBe('limit() returned [Object]; return an integer >= 0 or Infinity')
  })
})

describe('SSE_MAX_PER_USER', () => {
  afterEach(() => {
    delete process.env.SSE_MAX_PER_USER
  })

  test('sets the cap if limit is absent', async () => {
    process.env.SSE_MAX_PER_USER = '0'
    expect((await supertest(createApp().app).get('/events').set('user', 'alice')).status).toBe(429)
    process.env.SSE_MAX_PER_USER = 'Infinity'
    createApp()
  })

  test('is not read if there is a limit', () => {
    process.env.SSE_MAX_PER_USER = 'abc'
    expect(() => createApp({ limit: 1 })).not.toThrow()
  })

  test.each(['abc', '-1', '1.5', '', ' ', '5 ', '1e3', '0x5', 'NaN', '99999999999999999999'])(
    'of %j stops the start, quoted',
    (value) => {
      process.env.SSE_MAX_PER_USER = value
      expect(() => createApp()).toThrow(
        `The environment variable SSE_MAX_PER_USER is '${value}'; give an integer >= 0 or Infinity, such as SSE_MAX_PER_USER=5, or unset it`,
      )
    },
  )
})

describe('an option that cannot work stops the start, quoted, with what to give instead', () => {
  test.each([
    ['limit', -1, 'limit is -1; give an integer >= 0 or Infinity, or a function'],
    ['limit', '5', "limit is '5'; give"],
    ['limit', Number.NaN, 'limit is NaN; give'],
    ['limit', null, 'limit is null; give'],
    ['keyGenerator', undefined, 'keyGenerator is undefined; give a function that says whose stream this is'],
    ['keyGenerator', 'ip', "keyGenerator is 'ip'; give a function"],
    ['store', {}, 'store is {}; give an object with acquire, release and count'],
    ['store', null, 'store is null; give'],
    ['capacity', 1.5, 'capacity is 1.5; give an integer'],
    ['identifier', 'a"b', "identifier is 'a\"b'; give 1 to 64 letters"],
    ['identifier', '', "identifier is ''; give"],
    ['identifier', 'a'.repeat(65), "identifier is 'aaa"],
    ['identifier', 5, 'identifier is 5; give'],
    ['whenStoreDown', 'never', "whenStoreDown is 'never'; give 'local', 'allow' or 'refuse'"],
    [
      'store',
      storeWith({ leaseMs: 0, renew: () => [] }),
      'leaseMs of the store is 0; give an integer from 1',
    ],
    ['store', storeWith({ leaseMs: 1000 }), 'leaseMs of the store is 1000; give an integer from 1'],
    ['handler', 'x', "handler is 'x'; give a function"],
    ['skip', true, 'skip is true; give a function'],
  ])('%s: %p', (name, value, message) => {
    expect(() => streamLimit({ keyGenerator, [name]: value } as never)).toThrow(message)
  })

  test.each(['acquire', 'release', 'count'])('a store without %s', (name) => {
    const store = storeWith({ [name]: undefined })
    expect(() => streamLimit({ keyGenerator, store } as never)).toThrow('with acquire, release and count')
  })

  test.each([[undefined], [null], ['alice']])('%p for the options', (options) => {
    expect(() => streamLimit(options as never)).toThrow('an object with at least a keyGenerator')
  })

  function storeWith(fields: object) {
    return { acquire() {}, release() {}, count() {}, ...fields }
  }
})

test.each(['a.b-c_D', 'x'.repeat(64)])('the identifier may be %s', async (identifier) => {
  const { headers } = await supertest(createApp({ identifier, limit: 0 }).app)
    .get('/events')
    .set('user', 'alice')
  expect(headers.ratelimit).toBe(`"${identifier}";r=0`)
})

describe('the key', () => {
  test.each([undefined, null, ''])('%p is refused with 401 and never an uncounted stream', async (key) => {
    const { app, handled } = createApp({ keyGenerator: () => key })
    for (const path of ['/events', '/events']) {
      const response = await supertest(app).get(path)
      expect([response.status, response.body.code]).toEqual([401, 'ERR_STREAM_NO_KEY'])
    }
    expect(handled).toEqual([])
  })

  test('may come later', async () => {
    const { app, limit } = createApp({ keyGenerator: async (req) => req.get('user') })
    const { url } = await serve(app)
    await open(`${url}/events`, as('alice'))
    expect(await limit.count('alice')).toBe(1)
  })

  test.each([42, {}, true, Symbol('x')])('of another type (%p) is a mistake of the program', async (key) => {
    const { app, errors } = createApp({ keyGenerator: () => key as never })
    expect((await supertest(app).get('/events')).status).toBe(500)
    expect(errors[0]?.message).toContain(`a value of type ${typeof key}; return a string`)
  })

  test.each([
    [new Error('the database is gone'), 'the database is gone'],
    [undefined, 'A function given to streamLimit threw undefined; throw an Error instead'],
    [null, 'A function given to streamLimit threw null; throw an Error instead'],
    ['route', "A function given to streamLimit threw 'route'; throw an Error instead"],
  ])(
    'generator that throws or rejects with %p goes to the error handler, with no slot held',
    async (thrown, seen) => {
      const throwing = createApp({
        keyGenerator: () => {
          throw thrown
        },
      })
      const rejecting = createApp({ keyGenerator: () => Promise.reject(thrown) })
      for (const { app, limit, errors, handled } of [throwing, rejecting]) {
        expect((await supertest(app).get('/events')).status).toBe(500)
        expect(errors[0]?.message).toBe(seen)
        expect([limit.open, handled]).toEqual([0, []])
      }
    },
  )
})

describe('count', () => {
  test('is 0 for nobody, and an error for a key that is no string; the store is asked for neither', async () => {
    const store = new MemoryStore()
    const count = jest.spyOn(store, 'count')
    const limit = streamLimit({ keyGenerator, store })
    expect(await Promise.all([undefined, null, ''].map((nobody) => limit.count(nobody)))).toEqual([0, 0, 0])
    await expect(limit.count(7 as never)).rejects.toThrow(
      new TypeError('limit.count: the key is 7; give the string that keyGenerator returns'),
    )
    expect([count.mock.calls.length, limit.isStoreDown]).toEqual([0, false])
  })
})

describe('a slot that comes free', () => {
  test.each<[string, () => Partial<StreamLimitOptions>]>([
    ['of the limit', () => ({ limit: 1 })],
    ['of the limit, in a store that answers later', () => ({ limit: 1, store: laterStore() })],
    ['of the capacity', () => ({ capacity: 1 })],
  ])('%s, is had by the request that arrives together with the close', async (_name, options) => {
    const { app, limit, errors } = createApp(options())
    app.get('/idle', (_req, res) => {
      res.end()
    })
    const { port } = await serve(app)
    const warmUp = async () => {
      const client = await raw(port)
      client.send(get('/idle'))
      await eventually(() => client.text.endsWith('\r\n\r\n'))
      client.text = ''
      return client
    }
    const askBy = async (client: RawClient) => {
      client.send(get('/events', 'user: alice'))
      await eventually(() => client.text.includes('\r\n'))
      expect(client.text).toMatch(/^HTTP\/1.1 200/)
    }
    let client = await warmUp()
    await askBy(client)
    for (let reloads = 0; reloads < 10; reloads += 1) {
      const next = await warmUp()
      client.destroy()
      await askBy(next)
      client = next
    }
    expect([limit.open, errors]).toEqual([1, []])
  })

  test('goes to one of those that wait for it', async () => {
    const { app, limit } = createApp({ limit: 2 })
    const { port, url } = await serve(app)
    const leaving = await open(`${url}/events`, as('alice'))
    await open(`${url}/events`, as('alice'))
    const clients = await Promise.all(Array.from({ length: 5 }, () => raw(port)))
    leaving.close()
    for (const client of clients) client.send(get('/events', 'user: alice'))
    await eventually(() => clients.every(({ text }) => text.includes('\r\n')))
    expect(clients.map(({ text }) => text.slice(9, 12)).sort()).toEqual(['200', '429', '429', '429', '429'])
    expect(limit.open).toBe(2)
  })
})

describe('the capacity', () => {
  test('refuses over all keys with 503, before the store is asked and before 429', async () => {
    const store = new MemoryStore()
    const acquire = jest.spyOn(store, 'acquire')
    const { app, limit } = createApp({ capacity: 2, limit: 1, store })
    const { url } = await serve(app)
    await open(`${url}/events`, as('alice'))
    const second = await open(`${url}/events`, as('bob'))
    const refused = await supertest(url).get('/events').set('user', 'alice')
    expect([refused.status, refused.body.code]).toEqual([503, 'ERR_STREAM_CAPACITY'])
    expect(refused.body.detail).toContain('Try again later')
    expect(acquire).toHaveBeenCalledTimes(2)
    second.close()
    await eventually(() => limit.open === 1)
    expect((await open(`${url}/events`, as('carol'))).status).toBe(200)
  })

  test('cannot be passed by simultaneous opens while the store thinks', async () => {
    const { app, limit } = createApp({ capacity: 3, limit: 100, store: laterStore() })
    const { url } = await serve(app)
    const clients = await Promise.all(Array.from({ length: 20 }, () => open(`${url}/events`, as('alice'))))
    expect(clients.filter((client) => client.status === 200)).toHaveLength(3)
    expect(limit.open).toBe(3)
  })

  test('is not filled by requests that are being decided', async () => {
    let decide: () => void = () => {}
    let waiting = 0
    const decision = new Promise<void>((resolve) => {
      decide = resolve
    })
    const { app, limit } = createApp({
      capacity: 1,
      limit: async (req) => {
        if (req.get('user') === 'bob') return 5
        waiting += 1
        await decision
        return 5
      },
    })
    const { port, url } = await serve(app)
    const clients = await Promise.all(Array.from({ length: 20 }, () => raw(port)))
    for (const client of clients) client.send(get('/events', 'user: alice'))
    await eventually(() => waiting === 20)
    expect((await open(`${url}/events`, as('bob'))).status).toBe(200)
    decide()
    await eventually(() => clients.every((client) => client.text.includes('ERR_STREAM_CAPACITY')))
    expect([limit.open, await limit.count('alice')]).toEqual([1, 0])
  })

  test('is given back once by a client that leaves while the limit is awaited', async () => {
    const plan = wait()
    let isKnown = false
    const { app, limit } = createApp({
      capacity: 1,
      limit: () => (isKnown ? 5 : plan.reached().then(() => 5)),
    })
    const { port, url, server } = await serve(app)
    const { client, leave } = await connect(server, port)
    client.send(get('/events', 'user: alice'))
    await plan.arrival
    await leave()
    isKnown = true
    plan.pass()
    await new Promise((resolve) => setImmediate(resolve))
    const statuses = [await open(`${url}/events`, as('alice')), await open(`${url}/events`, as('alice'))]
    expect([statuses.map(({ status }) => status), limit.open]).toEqual([[200, 503], 1])
  })

  test('is given back by a refusal at once, also if its answer has to wait behind a stream', async () => {
    const { app, limit, errors } = createApp({ capacity: 2, limit: 1 })
    const { port, url } = await serve(app)
    const client = await raw(port)
    client.send(get('/events', 'user: alice').repeat(2))
    await eventually(() => errors.length === 1)
    expect((await open(`${url}/events`, as('bob'))).status).toBe(200)
    expect(limit.open).toBe(2)
  })

  test('is given back by opens that were refused or failed', async () => {
    let fail = true
    const { app, limit } = createApp({
      capacity: 1,
      limit: () => {
        if (fail) throw new Error('no plan')
        return 1
      },
    })
    const { url } = await serve(app)
    expect((await open(`${url}/events`, as('alice'))).status).toBe(500)
    fail = false
    expect((await open(`${url}/events`, as('alice'))).status).toBe(200)
    expect(limit.open).toBe(1)
    // Once, and not again when the refusal has been answered.
    expect((await open(`${url}/events`, as('bob'))).status).toBe(503)
  })
})

describe('a request', () => {
  test.each(['HEAD', 'OPTIONS'])('with %s passes unseen: no key, no slot, no refusal', async (method) => {
    const { app, limit, handled } = createApp({ limit: 0, keyGenerator: () => undefined })
    const { url } = await serve(app)
    const client = await open(`${url}/events`, { method })
    expect(client.status).toBe(method === 'HEAD' ? 200 : 405)
    expect([limit.open, handled]).toEqual([0, [method]])
  })

  test.each([true, Promise.resolve(true)])('that skip (%p) names goes through uncounted', async (skip) => {
    const { app, limit } = createApp({ limit: 0, skip: () => skip })
    const { url } = await serve(app)
    expect((await open(`${url}/events`, as('alice'))).status).toBe(200)
    expect([limit.open, await limit.count('alice')]).toEqual([0, 0])
  })

  test.each([false, Promise.resolve(false)])('that skip (%p) does not name is counted', async (skip) => {
    const { app, limit } = createApp({ limit: 1, skip: () => skip })
    const { url } = await serve(app)
    const statuses = [await open(`${url}/events`, as('alice')), await open(`${url}/events`, as('alice'))]
    expect([statuses.map(({ status }) => status), limit.open]).toEqual([[200, 429], 1])
  })

  test('that meets the same limiter twice counts once', async () => {
    const app = express()
    const limit = streamLimit({ keyGenerator })
    app.use('/events', limit)
    app.get('/events', limit, async (req, res) => {
      await streamEvents(await openSession(req, res, { events }), never)
    })
    const { url } = await serve(app)
    const client = await open(`${url}/events`, as('alice'))
    expect([limit.open, await limit.count('alice')]).toEqual([1, 1])
    client.close()
    await eventually(() => limit.open === 0)
    expect(await limit.count('alice')).toBe(0)
  })

  test('refused by the second limiter gives the slot of the first back', async () => {
    const app = express()
    const byUser = streamLimit({ keyGenerator, identifier: 'user' })
    const byAddress = streamLimit({ keyGenerator: (req) => req.ip, identifier: 'address', limit: 1 })
    app.get('/events', byUser, byAddress, async (req, res) => {
      await streamEvents(await openSession(req, res, { events }), never)
    })
    app.use(problemJson())
    const { url } = await serve(app)
    await open(`${url}/events`, as('alice'))
    const refused = await supertest(url).get('/events').set('user', 'bob')
    expect([refused.status, refused.body.detail]).toEqual([429, expect.stringContaining('policy "address"')])
    await eventually(() => byUser.open === 1)
    expect([await byUser.count('bob'), await byUser.count('alice')]).toEqual([0, 1])
  })

  test('may be typed more exactly in the options', () => {
    const exact = (req: Request<{ id: string }>) => req.params.id
    streamLimit({ keyGenerator: exact, limit: (req: Request<{ id: string }>) => req.params.id.length })
  })

  test('keeps the types of its route parameters behind the limiter', async () => {
    const app = express()
    app.get('/rooms/:id', streamLimit({ keyGenerator }), (req, res) => {
      const id: string = req.params.id
      res.json({ id })
    })
    expect((await supertest(app).get('/rooms/7').set('user', 'alice')).body).toEqual({ id: '7' })
  })

  test('reaches its handler in the same tick with a store that answers at once', () => {
    const limit = streamLimit({ keyGenerator: () => 'alice' })
    const socket = { on() {}, removeListener() {}, destroyed: false }
    const res = { on() {}, removeListener() {}, closed: false, destroyed: false, writableEnded: false }
    let handled = false
    limit({ method: 'GET', socket } as never, res as never, () => {
      handled = true
    })
    expect(handled).toBe(true)
  })
})

describe('a slot comes back exactly once', () => {
  /** A store that tells how often each slot was released. */
  function countingStore() {
    const store = new MemoryStore()
    const released = jest.spyOn(store, 'release')
    return { store, released }
  }

  test('when the handler throws, before or after the head', async () => {
    const { store, released } = countingStore()
    const app = express()
    const limit = streamLimit({ keyGenerator, store })
    app.get('/before', limit, () => {
      throw new Error('before')
    })
    app.get('/after', limit, async (req, res) => {
      await openSession(req, res, { events })
      throw new Error('after')
    })
    app.get('/source', limit, async (req, res) => {
      await streamEvents(await openSession(req, res, { events }), function* () {
        yield { event: 'hello' }
        throw new Error('source')
      })
    })
    app.use(((_error, _req, res, next) =>
      res.headersSent ? res.end() : next(_error)) satisfies ErrorRequestHandler)
    app.set('env', 'test')
    const { url } = await serve(app)
    for (const path of ['/before', '/after', '/source']) {
      const client = await open(url + path, as('alice'))
      await client.over
      await eventually(() => limit.open === 0)
      expect(await limit.count('alice')).toBe(0)
    }
    expect(released).toHaveBeenCalledTimes(3)
  })

  test.each(['end', 'destroy'] as const)('when the application calls res.%s()', async (way) => {
    const { store, released } = countingStore()
    const app = express()
    const limit = streamLimit({ keyGenerator, store })
    app.get('/', limit, async (req, res) => {
      await openSession(req, res, { events })
      res[way]()
    })
    const { url } = await serve(app)
    const client = await open(url, as('alice')).catch(() => undefined)
    await client?.over
    await eventually(() => limit.open === 0)
    expect(released).toHaveBeenCalledTimes(1)
  })

  test('when the client leaves while the key, the limit or the store is awaited', async () => {
    const { store, released } = countingStore()
    const waits = { key: wait(), limit: wait(), store: wait() }
    const slow: SlotStore = {
      acquire: async (key, slotId, limit) => {
        await waits.store.reached()
        return store.acquire(key, slotId, limit)
      },
      release: (key, slotId) => store.release(key, slotId),
      count: (key) => store.count(key),
    }
    const { app, limit, handled, errors } = createApp({
      keyGenerator: () => waits.key.reached().then(() => 'alice'),
      limit: () => waits.limit.reached().then(() => 5),
      store: slow,
    })
    const { port, server } = await serve(app)
    for (const phase of ['key', 'limit', 'store'] as const) {
      const connected = once(server, 'connection')
      const client = await raw(port)
      const [socket] = await connected
      client.send(get('/events'))
      for (const step of ['key', 'limit', 'store'] as const) {
        await waits[step].arrival
        if (step === phase) {
          client.destroy()
          await once(socket, 'close')
        }
        waits[step].pass()
        if (step === phase) break
      }
    }
    // Only the last of the three had got as far as to take a slot.
    await eventually(() => released.mock.calls.length === 1)
    expect([limit.open, store.size, handled, errors]).toEqual([0, 0, [], []])
  })

  test('when the socket of a pipelined request dies while the key is awaited, and it goes no further', async () => {
    const { store } = countingStore()
    const key = wait()
    const plan = jest.fn(() => 5)
    const { app, limit, handled } = createApp({
      keyGenerator: () => key.reached().then(() => 'alice'),
      limit: plan,
      store,
    })
    const outer = express()
    outer.get('/hang', () => {})
    outer.use(app)
    const { port, server } = await serve(outer)
    const { client, leave } = await connect(server, port)
    client.send(get('/hang') + get('/events'))
    await key.arrival
    await leave()
    key.pass()
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect([limit.open, store.size, handled, plan.mock.calls]).toEqual([0, 0, [], []])
  })

  test('when the client leaves while the limit is awaited, and the store is not asked', async () => {
    const { store } = countingStore()
    const acquire = jest.spyOn(store, 'acquire')
    const plan = wait()
    const { app, limit, handled } = createApp({ limit: () => plan.reached().then(() => 5), store })
    const { port, server } = await serve(app)
    const { client, leave } = await connect(server, port)
    client.send(get('/events', 'user: alice'))
    await plan.arrival
    await leave()
    plan.pass()
    await new Promise((resolve) => setImmediate(resolve))
    expect([limit.open, handled, acquire.mock.calls]).toEqual([0, [], []])
  })

  test('when other middleware destroys a pipelined response while the key is awaited', async () => {
    const { store } = countingStore()
    const key = wait()
    const { app, limit, handled } = createApp({
      keyGenerator: () => key.reached().then(() => 'alice'),
      store,
    })
    const outer = express()
    outer.get('/hang', () => {})
    let destroy = () => {}
    outer.use((_req, res, next) => {
      destroy = () => res.destroy()
      next()
    }, app)
    const { port } = await serve(outer)
    const client = await raw(port)
    client.send(get('/hang') + get('/events'))
    await key.arrival
    destroy()
    key.pass()
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect([limit.open, store.size, handled]).toEqual([0, 0, []])
  })

  test('when other middleware answers while the store is awaited, and the stream goes no further', async () => {
    const { store, released } = countingStore()
    let answer: (() => void) | undefined
    const { app, handled } = createApp({
      store: {
        acquire: (key, slotId, cap) =>
          new Promise((resolve) => {
            answer = () => resolve(store.acquire(key, slotId, cap))
          }),
        release: (key, slotId) => store.release(key, slotId),
        count: (key) => store.count(key),
      },
    })
    const timeouts = express()
    let timeOut: () => void = () => {}
    timeouts.use((_req, res, next) => {
      timeOut = () => res.status(504).end()
      next()
    }, app)
    const { url } = await serve(timeouts)
    const answered = open(`${url}/events`, as('alice'))
    await eventually(() => answer !== undefined)
    timeOut()
    answer?.()
    expect((await answered).status).toBe(504)
    await eventually(() => released.mock.calls.length === 1)
    expect([store.size, handled]).toEqual([0, []])
  })

  test("when somebody else emits 'close' while the limit is awaited, and the stream goes no further", async () => {
    let answer: ((cap: number) => void) | undefined
    const limits = () =>
      new Promise<number>((resolve) => {
        answer = resolve
      })
    const { app, limit, handled } = createApp({ limit: limits })
    const wrapped = express()
    const responses: express.Response[] = []
    wrapped.use((_req, res, next) => {
      responses.push(res)
      next()
    }, app)
    const { url } = await serve(wrapped)
    const answered = open(`${url}/events`, as('alice'))
    await eventually(() => answer !== undefined)
    responses[0]?.emit('close')
    answer?.(5)
    await new Promise((resolve) => setImmediate(resolve))
    responses[0]?.status(504).end()
    await (await answered).over
    expect([limit.open, await limit.count('alice'), handled]).toEqual([0, 0, []])
  })

  test('when the server closes', async () => {
    const { app, limit } = createApp()
    const { url, server } = await serve(app)
    const clients = await Promise.all(['a', 'b', 'c'].map((user) => open(`${url}/events`, as(user))))
    server.closeAllConnections()
    await Promise.all(clients.map((client) => client.over))
    await eventually(() => limit.open === 0)
    expect(await limit.count('a')).toBe(0)
  })

  test('on a connection that is used again', async () => {
    const { store, released } = countingStore()
    const app = express()
    const limit = streamLimit({ keyGenerator, store, limit: 1 })
    app.get('/', limit, async (req, res) => {
      const session = await openSession(req, res, { events, headers: { Connection: 'keep-alive' } })
      await streamEvents(session, [{ event: 'hello', data: limit.open }])
    })
    const { port } = await serve(app)
    const client = await raw(port)
    for (let i = 1; i <= 20; i++) {
      client.send(get('/', 'user: alice'))
      await eventually(() => client.text.split('\r\n0\r\n\r\n').length === i + 1)
    }
    expect(client.text.match(/HTTP\/1.1 200 OK/g)).toHaveLength(20)
    expect(client.text.match(/data: 1\n/g)).toHaveLength(20)
    await eventually(() => limit.open === 0)
    expect(released).toHaveBeenCalledTimes(20)
  })

  test('when the socket of pipelined requests dies', async () => {
    const { store, released } = countingStore()
    const { app, limit } = createApp({ store, limit: Infinity })
    const { port } = await serve(app)
    const clients = await Promise.all(Array.from({ length: 5 }, () => raw(port)))
    for (const client of clients) client.send(get('/events', 'user: alice').repeat(10))
    await eventually(() => limit.open === 50)
    for (const client of clients) client.destroy()
    await eventually(() => limit.open === 0)
    expect([await limit.count('alice'), store.size]).toEqual([0, 0])
    expect(released).toHaveBeenCalledTimes(50)
  })
})

describe('a store that fails', () => {
  const failing = (fail: () => never | Promise<never>) => {
    const released: string[] = []
    const store: SlotStore = {
      acquire: fail,
      release: (_key, slotId) => void released.push(slotId),
      count: () => 0,
    }
    return { store, released }
  }

  test.each([
    [
      'throws',
      () => {
        throw new Error('down: secret')
      },
    ],
    ['rejects', () => Promise.reject(new Error('down: secret'))],
    ['answers nothing', () => undefined as never],
    ['answers nonsense', () => ({ granted: 'yes' }) as never],
    ['answers nothing, later', async () => undefined as never],
    ['answers nonsense, later', async () => ({ granted: 'yes' }) as never],
    ['answers without a number', async () => ({ granted: true, held: Symbol('many') }) as never],
    [
      'answers with a number that cannot be read',
      async () =>
        ({
          granted: true,
          get held() {
            throw new Error('down: secret')
          },
        }) as never,
    ],
  ])(
    "and %s on acquire refuses with 503 under whenStoreDown 'refuse', releases what it may have taken, and leaks nothing",
    async (_, fail) => {
      const { store, released } = failing(fail)
      const { app, errors, limit } = createApp({ store, whenStoreDown: 'refuse' })
      const response = await supertest(app).get('/events').set('user', 'alice')
      expect([response.status, response.body.code]).toEqual([503, 'ERR_STREAM_STORE'])
      expect(response.text).not.toContain('secret')
      expect(errors[0]?.cause).toBeInstanceOf(Error)
      expect(limit.open).toBe(0)
      await eventually(() => released.length === 1)
    },
  )

  test.each([
    [
      'throws',
      () => {
        throw new Error('down')
      },
    ],
    ['rejects', () => Promise.reject(new Error('down'))],
    [
      'throws what cannot be shown',
      () => {
        throw Object.assign(Object.create(null), {
          toString: () => {
            throw new Error()
          },
        })
      },
    ],
    [
      'rejects with a text that is none',
      () => Promise.reject(Object.assign(new Error(), { message: { a: 1 } })),
    ],
    [
      'rejects with what throws when it is looked at',
      () =>
        Promise.reject({
          [inspect.custom]() {
            throw new Error()
          },
        }),
    ],
    [
      'rejects with a message that throws',
      () =>
        Promise.reject(
          Object.defineProperty(new Error(), 'message', {
            get: () => {
              throw new Error()
            },
          }),
        ),
    ],
  ])('and %s on release is reported as a warning and harms nothing', async (_, fail) => {
    const store: SlotStore = {
      acquire: (): Grant => ({ granted: true, held: 1 }),
      release: fail,
      count: () => 0,
    }
    const { app, limit } = createApp({ store })
    const { url } = await serve(app)
    const client = await open(`${url}/events`, as('alice'))
    const warned = nextWarning()
    client.close()
    expect(await warned).toMatch(/^The slot store failed: (down|.*\[|something that cannot be shown)/)
    expect(limit.open).toBe(0)
  })
})

test('a client that has left is not refused any more', async () => {
  const { app, errors } = createApp({
    keyGenerator: async (req) => {
      await once(req.socket, 'close')
      return undefined
    },
  })
  const { port, server } = await serve(app)
  const connected = once(server, 'connection')
  const client = await raw(port)
  client.send(get('/events'))
  const [socket] = await connected
  client.destroy()
  await once(socket, 'close')
  await new Promise((resolve) => setImmediate(resolve))
  expect(errors).toEqual([])
})

test('a store may answer with a thenable that is no Promise', async () => {
  const store = new MemoryStore()
  const { app, limit } = createApp({
    store: {
      acquire: (key, slotId, cap) =>
        ({
          // biome-ignore lint/suspicious/noThenProperty: it is what is tested
          then: (resolve: (grant: Grant) => void) => resolve(store.acquire(key, slotId, cap)),
        }) as Promise<Grant>,
      release: (key, slotId) => store.release(key, slotId),
      count: (key) => store.count(key),
    },
  })
  const { url } = await serve(app)
  expect((await open(`${url}/events`, as('alice'))).status).toBe(200)
  expect([limit.open, limit.isStoreDown]).toEqual([1, false])
})

test('a handler answers refusals, and nothing else, in place of the error handlers', async () => {
  const { app, errors } = createApp({
    limit: (req) => (req.get('user') === 'broken' ? Number.NaN : 0),
    handler: (_req, res, _next, error) => res.status(error.status).send(`custom ${error.code}`),
  })
  const refused = await supertest(app).get('/events').set('user', 'alice')
  expect([refused.status, refused.text, errors]).toEqual([429, 'custom ERR_STREAM_LIMIT', []])
  const broken = await supertest(app).get('/events').set('user', 'broken')
  expect([broken.status, errors.length]).toEqual([500, 1])
})

test.each([
  ['max', 'did you mean limit?'],
  ['message', 'did you mean handler?'],
  ['keygenerator', 'did you mean keyGenerator?'],
  ['windowMs', 'Its options are limit, keyGenerator'],
])('an option that does not exist (%s) is refused, and the nearest is named', (name, advice) => {
  expect(() => streamLimit({ keyGenerator, [name]: 3 } as never)).toThrow(
    expect.objectContaining({ code: 'ERR_STREAM_BAD_OPTION', message: expect.stringContaining(advice) }),
  )
})

test('a misspelt keyGenerator is named', () => {
  expect(() => streamLimit({ keyGenerater: () => 'a' } as never)).toThrow('did you mean keyGenerator?')
})

describe('a warning is given', () => {
  test('of none of the members of a request, which app.use(streamLimit) takes for options', async () => {
    const app = express()
    app.use(streamLimit as never)
    app.use(((error, _req, res, _next) => res.status(500).send(error.message)) as express.ErrorRequestHandler)
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    try {
      const { text } = await supertest(app).get('/')
      expect(text).toContain('streamLimit: keyGenerator is undefined')
      expect(warn).not.toHaveBeenCalled()
    } finally {
      warn.mockRestore()
    }
  })

  test('when one store is given to two limiters', async () => {
    const warned = nextWarning()
    const store = new MemoryStore()
    streamLimit({ keyGenerator, store })
    streamLimit({ keyGenerator, store })
    expect(await warned).toContain('One store was given to two limiters')
  })

  test('once, when a limiter is made inside a handler', async () => {
    const warned = nextWarning()
    const app = express()
    app.get('/', (req, res, next) => void streamLimit({ keyGenerator })(req, res, next))
    await supertest(app).get('/').set('user', 'alice')
    expect(await warned).toContain('made for each request')
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    await supertest(app).get('/').set('user', 'alice')
    expect(warn).not.toHaveBeenCalled()
    warn.mockRestore()
  })
})

/** The text of the next warning. jest gives tests a process of its own, which emits none. */
function nextWarning(): Promise<string> {
  return new Promise((resolve) => {
    const spy = jest.spyOn(process, 'emitWarning').mockImplementation((text) => {
      spy.mockRestore()
      resolve(String(text))
    })
  })
}

/** A MemoryStore whose acquires all answer a turn of the event loop later. */
function laterStore(): SlotStore {
  const store = new MemoryStore()
  return {
    acquire: async (key, slotId, limit) => {
      await new Promise((resolve) => setImmediate(resolve))
      return store.acquire(key, slotId, limit)
    },
    release: async (key, slotId) => store.release(key, slotId),
    count: async (key) => store.count(key),
  }
}

/** Connects; `leave` goes away again, until the server has seen it. */
async function connect(server: Server, port: number) {
  const connected = once(server, 'connection')
  const client = await raw(port)
  const [socket] = await connected
  const leave = async () => {
    client.destroy()
    await once(socket, 'close')
  }
  return { client, leave }
}

/** A place where code waits until it is let pass. */
function wait() {
  let arrive: () => void = () => {}
  let pass: () => void = () => {}
  const state = {
    arrival: new Promise<void>((resolve) => {
      arrive = resolve
    }),
    reached: () =>
      new Promise<void>((resolve) => {
        pass = resolve
        arrive()
      }),
    pass: () => {
      pass()
      state.arrival = new Promise<void>((resolve) => {
        arrive = resolve
      })
    },
  }
  return state
}
