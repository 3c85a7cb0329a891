import { once } from 'node:events'
import type { Socket } from 'node:net'
import express, { type ErrorRequestHandler, type Request } from 'express'
import {
  defineEvents,
  MemoryStore,
  openSession,
  problemJson,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { get, type RawClient, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { randomFrom } from './support/random.js'
import { serve } from './support/server.js'

const CONNECTIONS = 2000
const USERS = 50
/** So many of the users hold all their slots meanwhile. Those of the others are never taken for long. */
const FULL_USERS = 10
const CAP = 5
const AT_ONCE = 200
// A run can be repeated with the seed that its test name shows.
const seed = Number(process.env.STORM_SEED ?? Math.floor(Math.random() * 1e9))

const events = defineEvents({ n: true })

test(`a storm of aborted streams leaves nothing behind, and nobody is ever over the cap (STORM_SEED=${seed})`, async () => {
  const random = randomFrom(seed)
  const pick = (n: number) => Math.floor(random() * n)
  const turns = async (n: number) => {
    for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve))
  }

  const store = new MemoryStore()
  const limit = streamLimit({
    store,
    limit: CAP,
    keyGenerator: async (req) => {
      await turns(pick(4))
      return req.get('user')
    },
  })

  // The truth, counted apart from the limiter: the streams that are being handled, by user.
  const handled = new Map<string, number>()
  let mostHandled = 0
  let admitted = 0
  let refused = 0
  const unexpected: unknown[] = []
  const countHandled = (req: Request) => {
    const user = String(req.get('user'))
    const now = (handled.get(user) ?? 0) + 1
    handled.set(user, now)
    mostHandled = Math.max(mostHandled, now)
    admitted += 1
    let over = false
    const leave = () => {
      if (over) return
      over = true
      handled.set(user, (handled.get(user) ?? 0) - 1)
    }
    req.res?.once('close', leave)
    req.socket.setMaxListeners(0).once('close', leave)
  }

  const app = express()
  app.use(express.json())
  app.all('/events', limit, async (req, res) => {
    countHandled(req)
    await turns(pick(3))
    const session = await openSession(req, res, { events, keepAlive: 1 + pick(20), stallTimeoutMs: 5000 })
    if (req.query.idle) return streamEvents(session, never())
    const [length, size] = [req.query.finite ? 3 : Infinity, 100 + pick(40_000)]
    await streamEvents(session, async function* (signal: AbortSignal) {
      for (let i = 0; i < length && !signal.aborted; i++) {
        yield { event: 'n', data: 'x'.repeat(size), id: String(i) }
        await turns(pick(3))
        if (i > 1000) throw new Error('enough')
      }
    })
  })
  app.use(((error, _req, _res, next) => {
    if (error.code === 'ERR_STREAM_LIMIT') refused += 1
    next(error)
  }) satisfies ErrorRequestHandler)
  app.use(problemJson())
  app.use(((error, _req, res, _next) => {
    unexpected.push(error)
    res.destroy()
  }) satisfies ErrorRequestHandler)
  app.use(((_req, res) => res.destroy()) satisfies express.RequestHandler)
  const { server, port } = await serve(app)
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  const timersBefore = timers()

  const request = (user: string, finite: boolean) =>
    pick(3) === 0
      ? `POST /events${finite ? '?finite=1' : ''} HTTP/1.1\r\nHost: a\r\nuser: ${user}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"q":"x"}`
      : get(`/events${finite ? '?finite=1' : ''}`, `user: ${user}`)

  const ways: ((client: RawClient, user: string) => Promise<void>)[] = [
    // Gone before anything can have been answered.
    async (client, user) => {
      client.send(request(user, false))
    },
    // Half a request, then gone.
    async (client, user) => {
      client.send(request(user, false).slice(0, 10 + pick(40)))
      await turns(pick(5))
    },
    // Gone somewhere between the key and the first events.
    async (client, user) => {
      client.send(request(user, false))
      await turns(pick(12))
    },
    // Gone in the middle of the stream.
    async (client, user) => {
      client.send(request(user, false))
      const enough = pick(50_000)
      await eventually(
        () => client.text.length > enough || client.text.includes('429') || client.socket.closed,
      )
    },
    // Stops reading, then gone.
    async (client, user) => {
      client.send(request(user, false))
      await once(client.socket, 'data')
      client.socket.pause()
      await turns(pick(30))
    },
    // Several on one connection without waiting for an answer.
    async (client, user) => {
      client.send(Array.from({ length: 2 + pick(8) }, () => request(user, pick(2) === 0)).join(''))
      await turns(pick(40))
    },
    // One after the other on one connection.
    async (client, user) => {
      for (let i = 1; i <= 1 + pick(3); i++) {
        client.send(request(user, true))
        await eventually(
          () => countOf(client.text, /\r\n0\r\n\r\n|"ERR_STREAM_LIMIT"}/g) >= i || client.socket.closed,
        )
      }
    },
  ]

  const holders = await Promise.all(Array.from({ length: FULL_USERS * CAP }, () => raw(port)))
  for (const [i, holder] of holders.entries()) {
    holder.send(get('/events?idle=1', `user: user-${i % FULL_USERS}`))
  }
  await eventually(() => limit.open === holders.length)

  let started = 0
  const worker = async () => {
    while (started < CONNECTIONS) {
      started += 1
      const client = await raw(port)
      await ways[pick(ways.length)]?.(client, `user-${pick(USERS)}`)
      if (pick(2) === 0) client.destroy()
      else client.socket.resetAndDestroy()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  for (const holder of holders) holder.destroy()
  await eventually(() => sockets.size === 0)
  await eventually(() => limit.open === 0)

  expect(unexpected).toEqual([])
  expect(mostHandled).toBe(CAP)
  expect(admitted).toBeGreaterThan(CONNECTIONS / 10)
  expect(refused).toBeGreaterThan(CONNECTIONS / 20)
  for (let user = 0; user < USERS; user++) expect(await limit.count(`user-${user}`)).toBe(0)
  expect(store.size).toBe(0)
  await eventually(() => timers() <= timersBefore)
}, 120_000)

test('listeners of a socket do not grow with its requests, waiting or done', async () => {
  const app = express()
  const limit = streamLimit({ keyGenerator: () => 'alice', limit: Infinity })
  const other = streamLimit({ keyGenerator: () => 'alice', limit: Infinity })
  app.get('/', limit, other, async (req, res) => {
    const session = await openSession(req, res, { events, headers: { Connection: 'keep-alive' } })
    await streamEvents(session, req.query.finite ? [{ event: 'n' }] : never())
  })
  const { port, server } = await serve(app)
  const connected = once(server, 'connection')
  const client = await raw(port)
  const [socket] = (await connected) as [Socket]
  const listeners = () => socket.eventNames().map((name) => [name, socket.listenerCount(name)])
  client.send(get('/?finite=1'))
  await eventually(() => countOf(client.text, /\r\n0\r\n\r\n/g) === 1 && limit.open === 0)
  const idle = listeners()
  const idleCloseListeners = socket.listenerCount('close')
  for (let i = 2; i <= 20; i++) {
    client.send(get('/?finite=1'))
    await eventually(() => countOf(client.text, /\r\n0\r\n\r\n/g) === i && limit.open === 0)
  }
  expect(listeners()).toEqual(idle)
  client.send(get('/').repeat(20))
  await eventually(() => limit.open === 20)
  // Node's own count moves by one while a response is under way.
  expect(socket.listenerCount('close')).toBeLessThanOrEqual(idleCloseListeners + 2)
  client.destroy()
  await eventually(() => limit.open === 0)
})

async function* never(): AsyncGenerator<{ event: string }> {
  await new Promise(() => {})
}

function countOf(text: string, pattern: RegExp): number {
  return text.match(pattern)?.length ?? 0
}

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
}
