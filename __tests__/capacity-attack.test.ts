import express from 'express'
import { MemoryStore, type SlotStore, streamLimit } from 'express-sse-guard'
import { RedisStore } from 'express-sse-guard/redis'
import { get, open, type RawClient, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serveLimited } from './support/limited-server.js'
import { connectBoth } from './support/redis-clients.js'
import { describeWithRedis, RedisServer } from './support/redis-server.js'
import { serve } from './support/server.js'

/** Connections of one user that ask for a stream again as soon as they were refused, until they are stopped. */
class Attackers {
  #isStopped = false
  refusals = 0

  constructor(
    readonly port: number,
    readonly user: string,
    /** How many requests are sent at once, behind each other. */
    readonly pipelined = 1,
  ) {}

  async start(connections: number): Promise<void> {
    const clients = await Promise.all(Array.from({ length: connections }, () => raw(this.port)))
    for (const client of clients) this.#attack(client)
  }

  stop(): void {
    this.#isStopped = true
  }

  #attack(client: RawClient): void {
    const requests = get('/events', `user: ${this.user}`).repeat(this.pipelined)
    let seen = 0
    client.socket.on('data', () => {
      const answers = client.text.split('ERR_STREAM_').length - 1
      this.refusals += answers - seen
      seen = answers
      if (seen < this.pipelined || this.#isStopped) return
      seen = 0
      client.text = ''
      client.send(requests)
    })
    client.send(requests)
  }
}

/** Opens five streams of one user at once and leaves them, 20 times, and counts how many were admitted. */
async function admitted(visit: () => ReturnType<typeof open>, isClosed: () => boolean) {
  let count = 0
  for (let round = 0; round < 20; round += 1) {
    const clients = await Promise.all(Array.from({ length: 5 }, visit))
    count += clients.filter(({ status }) => status === 200).length
    for (const client of clients) client.close()
    await eventually(isClosed)
  }
  return count
}

function attacks(storeOf: () => SlotStore | undefined) {
  test.each([
    ['one attacker on 40 connections', 20, 1, 40, 1],
    ['one attacker on 100 connections', 50, 1, 100, 1],
    ['three attackers, who hold 15 of 20', 20, 3, 40, 1],
    ['one attacker who pipelines 100 requests on each of 10 connections', 1000, 1, 10, 100],
  ])(
    'another user is admitted 100 of 100 times beside %s',
    async (_, capacity, users, connections, pipelined) => {
      const { url, port, limit, visit } = await serveLimited({ capacity, limit: 5, store: storeOf() })
      const attackers: Attackers[] = []
      for (let user = 0; user < users; user += 1) {
        const name = `mallory-${user}`
        await Promise.all(Array.from({ length: 5 }, () => open(`${url}/events`, { headers: { user: name } })))
        attackers.push(new Attackers(port, name, pipelined))
      }
      expect(limit.open).toBe(5 * users)
      await Promise.all(attackers.map((attacker) => attacker.start(connections)))
      const count = await admitted(
        () => visit('victim'),
        () => limit.open === 5 * users,
      )
      for (const attacker of attackers) attacker.stop()
      expect(count).toBe(100)
      expect(attackers.every(({ refusals }) => refusals > connections)).toBe(true)
    },
    180_000,
  )

  test('200 simultaneous opens never pass the capacity, and leave no slot in the store', async () => {
    const store = storeOf() ?? new MemoryStore()
    const { limit, visit } = await serveLimited({ capacity: 20, limit: 2, store })
    const users = Array.from({ length: 200 }, (_, i) => `user-${i}`)
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, limit.open)
    })
    const clients = await Promise.all(users.map((user) => visit(user)))
    clearInterval(watch)
    most = Math.max(most, limit.open)
    expect([clients.filter(({ status }) => status === 200).length, most]).toEqual([20, 20])
    expect(clients.filter(({ status }) => status === 503)).toHaveLength(180)
    const counts = async () =>
      (await Promise.all(users.map((user) => store.count(user)))).reduce((a, b) => a + b)
    await eventually(async () => (await counts()) === 20)
    for (const client of clients) client.close()
    await eventually(async () => (await counts()) === 0)
  })
}

describe('capacity on a MemoryStore', () => {
  attacks(() => undefined)
})

describeWithRedis('capacity on a RedisStore', () => {
  let server: RedisServer
  let store: RedisStore

  beforeAll(async () => {
    server = await RedisServer.start()
    const { ioredis } = await connectBoth(server)
    store = new RedisStore({ sendCommand: ioredis.sendCommand, commandTimeoutMs: 10_000 })
  })
  attacks(() => store)
})

test('a client whose next request is ahead of the close of its stream is not refused', async () => {
  let leave: () => void = () => {}
  const { limit, visit } = await serveLimited({
    limit: 1,
    keyGenerator: () => {
      // The request is here, and the stream before it is only now being left.
      leave()
      return 'alice'
    },
  })
  const statuses: (number | undefined)[] = []
  for (let i = 0; i < 60; i += 1) {
    const client = await visit()
    statuses.push(client.status)
    leave = () => client.close()
  }
  expect(new Set(statuses)).toEqual(new Set([200]))
  expect(limit.open).toBe(1)
})

describe('a refusal waits for a close', () => {
  // Only the clock of the limiter stands still: the sockets and what waits for them go on.
  beforeEach(() => {
    jest.useFakeTimers({
      doNotFake: [
        'Date',
        'hrtime',
        'nextTick',
        'queueMicrotask',
        'setImmediate',
        'clearImmediate',
        'setInterval',
        'clearInterval',
      ],
    })
  })
  afterEach(() => {
    jest.useRealTimers()
  })

  const waiting = (count: number) => eventually(() => jest.getTimerCount() === count)

  /** A server whose streams stay silent, so that there is no timer but those of the requests that wait. */
  async function serveSilent(limit: number, onError: () => void = () => {}) {
    const served = await serveLimited({
      limit,
      handler: (_req, res, _next, error) => {
        onError()
        res.status(error.status).end(error.code)
      },
    })
    const ask = async () => {
      const client = await raw(served.port)
      return client.send(get('/silent', 'user: alice'))
    }
    const hold = async () => {
      const before = served.limit.open
      const client = await ask()
      await eventually(() => served.limit.open === before + 1)
      return client
    }
    return { ...served, ask, hold }
  }

  test('of 50 ms, and no longer', async () => {
    const { ask, hold } = await serveSilent(1)
    await hold()
    const refused = await ask()
    await waiting(1)
    jest.advanceTimersByTime(49)
    expect([refused.text, jest.getTimerCount()]).toEqual(['', 1])
    jest.advanceTimersByTime(1)
    await eventually(() => refused.text.includes('429'))
    expect(jest.getTimerCount()).toBe(0)
  })

  test('and is none for the one who has waited longest, for each close', async () => {
    const { ask, hold, limit } = await serveSilent(2)
    const first = await hold()
    const second = await hold()
    const refused: number[] = []
    for (let i = 1; i <= 3; i += 1) {
      const client = await ask()
      client.socket.on('data', () => refused.push(i))
      await waiting(i)
    }
    first.destroy()
    second.destroy()
    await waiting(1)
    jest.advanceTimersByTime(50)
    await eventually(() => refused.length > 0)
    expect([refused, limit.open]).toEqual([[3], 2])
  })

  test('that ends at once when its client leaves, who takes no slot', async () => {
    const { ask, hold, limit } = await serveSilent(1)
    const holder = await hold()
    const leaving = await ask()
    await waiting(1)
    leaving.destroy()
    await waiting(0)
    holder.destroy()
    await eventually(() => limit.open === 0)
    expect(await limit.count('alice')).toBe(0)
  })

  test('which one who has left does not take from the next who waits', async () => {
    let refusals = 0
    const { ask, hold, limit } = await serveSilent(1, () => {
      refusals += 1
    })
    const holder = await hold()
    const leaving = await ask()
    await waiting(1)
    await ask()
    await waiting(2)
    // In one turn of the event loop, as when a page is reloaded twice.
    leaving.destroy()
    holder.destroy()
    await waiting(0)
    await eventually(() => limit.open === 1 || refusals > 0)
    expect([limit.open, refusals]).toEqual([1, 0])
  })

  test('which one whom other middleware answered meanwhile does not take from the next', async () => {
    const limit = streamLimit({ keyGenerator: () => 'alice', limit: 1 })
    const responses: express.Response[] = []
    const app = express()
    // Something else ends the response while the limiter waits, and its reader does not read: no 'close' follows.
    app.use((req, res, next) => {
      responses.push(res)
      if (req.get('stuck')) res.write('x'.repeat(16_000_000))
      next()
    })
    app.get('/', limit, () => {})
    const { port } = await serve(app)
    const holder = (await raw(port)).send(get('/'))
    await eventually(() => limit.open === 1)
    const answered = await raw(port)
    answered.socket.pause()
    answered.send(get('/', 'stuck: yes'))
    await waiting(1)
    await raw(port).then((client) => client.send(get('/')))
    await waiting(2)
    responses[1]?.end()
    expect(jest.getTimerCount()).toBe(2)
    holder.destroy()
    await waiting(0)
    await eventually(() => limit.open === 1)
  })
})
