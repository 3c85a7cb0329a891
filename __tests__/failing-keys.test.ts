import { RedisStore } from 'express-sse-guard/redis'
import { Cluster, Redis } from 'ioredis'
import supertest from 'supertest'
import { eventually } from './support/eventually.js'
import { FaultyStore } from './support/faulty-store.js'
import { serveLimited } from './support/limited-server.js'
import { describeWithRedis, RedisServer, startCluster } from './support/redis-server.js'

let warnings: string[]

beforeEach(() => {
  warnings = []
  jest.spyOn(process, 'emitWarning').mockImplementation((text) => void warnings.push(String(text)))
})

afterEach(() => jest.restoreAllMocks())

/** A store that fails for one user, in every method that names the key. */
function failFor(user: string, leaseMs = 60) {
  const store = new FaultyStore(leaseMs)
  store.fault = (_method, key) => {
    if (key === user) throw new Error(`WRONGTYPE at sse:${user}`)
  }
  const { renew } = store
  store.renew = async (leases) => {
    if (store.fault && leases.some(({ key }) => key === user)) throw new Error(`WRONGTYPE at sse:${user}`)
    return renew.call(store, leases)
  }
  return store
}

describe('a key that fails by itself', () => {
  test("with 'refuse' gives 503 to its own user and to nobody else", async () => {
    const store = failFor('mallory')
    const { url, limit, visit } = await serveLimited({ store, whenStoreDown: 'refuse' })
    await visit('alice')
    const statuses = async (user: string) => (await supertest(url).get('/silent').set('user', user)).status
    expect(await statuses('mallory')).toBe(503)
    const others = await Promise.all(Array.from({ length: 20 }, (_, i) => visit(`user-${i}`)))
    expect(others.map(({ status }) => status)).toEqual(Array(20).fill(200))
    expect([await statuses('mallory'), limit.isStoreDown]).toEqual([503, false])
  })

  test('is counted by this process, and other keys are counted in the store', async () => {
    const store = failFor('mallory')
    const { limit, visit } = await serveLimited({ store, limit: 2 })
    const statuses: (number | undefined)[] = []
    for (let i = 0; i < 3; i += 1) statuses.push((await visit('mallory')).status)
    await visit('alice')
    expect(statuses).toEqual([200, 200, 429])
    expect([await limit.count('mallory'), await limit.count('alice')]).toEqual([2, 1])
    expect([store.slots.count('alice'), limit.isStoreDown]).toEqual([1, false])
  })

  test('lets no slot of another key expire, though all are renewed in one command', async () => {
    const store = failFor('mallory')
    const { visit } = await serveLimited({ store })
    await visit('alice')
    await visit('mallory')
    const renewed: string[][] = []
    const { renew } = store
    store.renew = async (leases) => {
      const states = await renew.call(store, leases)
      renewed.push(leases.map(({ key }) => key))
      return states
    }
    await eventually(() => renewed.filter((keys) => keys.includes('alice')).length >= 6)
  })

  test('is brought up to date when it answers: what is open is put back, what has closed is released', async () => {
    const store = failFor('mallory', 60_000)
    store.fault = undefined
    const { limit, visit } = await serveLimited({ store })
    const before = await visit('mallory')
    store.fault = failFor('mallory').fault
    const during = await visit('mallory')
    before.close()
    await eventually(() => limit.open === 1)
    expect(store.slots.count('mallory')).toBe(1)
    store.fault = undefined
    await eventually(() => store.slots.count('mallory') === 1 && store.answering === 0)
    during.close()
    await eventually(() => store.slots.size === 0)
    expect((await visit('mallory')).status).toBe(200)
    expect(store.slots.count('mallory')).toBe(1)
  })

  test('is warned of once, without its name', async () => {
    const { visit } = await serveLimited({ store: failFor('mallory') })
    await visit('mallory')
    await eventually(() => warnings.length > 0)
    await visit('mallory')
    expect(warnings).toEqual([
      'The slot store failed: WRONGTYPE at sse:…. It answers for other keys. ' +
        'Until it is back, this process counts for itself, against the same limit. (policy "sse")',
    ])
  })

  test('is warned of in words that stay readable, whatever its user is called', async () => {
    const store = new FaultyStore(60)
    store.fault = (_method, key) => {
      if (key === 'e' || key === '200') throw new Error(`Redis did not answer for ${key} within 200 ms`)
    }
    const { visit } = await serveLimited({ store })
    await visit('e')
    await eventually(() => warnings.length > 0)
    expect(warnings[0]).toMatch(/^The slot store failed: Redis did not answer for … within 200 ms\./)
  })

  test('is asked for ever less often, however many streams its user opens', async () => {
    const store = failFor('mallory', 60_000)
    let asked = 0
    const { fault } = store
    store.fault = (method, key) => {
      if (key === 'mallory') asked += 1
      return fault?.(method, key)
    }
    const { visit } = await serveLimited({ store, limit: Infinity, abandonedLimit: Infinity })
    const until = performance.now() + 1000
    await eventually(async () => {
      ;(await visit('mallory')).close()
      return performance.now() > until
    })
    // After 100, 200, 400 and 800 ms.
    expect(asked).toBeLessThan(8)
  })

  test('is one of the whole store if the probes of other keys fail as well', async () => {
    const store = new FaultyStore(60_000)
    store.fault = () => {
      throw new Error('away')
    }
    const { limit, visit } = await serveLimited({ store })
    await visit('alice')
    await eventually(() => limit.isStoreDown)
    expect(warnings).toHaveLength(1)
  })

  test('with a release that is refused keeps back no other release', async () => {
    const store = new FaultyStore(60_000)
    const { limit, visit } = await serveLimited({ store })
    const clients = await Promise.all(['mallory', 'alice', 'bob'].map((user) => visit(user)))
    store.fault = () => {
      throw new Error('away')
    }
    for (const client of clients) client.close()
    await eventually(() => limit.open === 0 && limit.isStoreDown)
    store.fault = (method, key) => {
      if (method === 'release' && key === 'mallory') throw new Error('WRONGTYPE')
    }
    await eventually(() => !limit.isStoreDown && store.slots.size === 1)
    expect(store.slots.count('mallory')).toBe(1)
    store.fault = undefined
    await eventually(() => store.slots.size === 0)
  })
})

describeWithRedis('on a real Redis', () => {
  test('a key that holds something else (WRONGTYPE) fails by itself, and its neighbours in the batch are renewed', async () => {
    const server = await RedisServer.start()
    const redis = new Redis(server.url)
    try {
      const store = new RedisStore({
        sendCommand: (command, ...args) => redis.call(command as string, ...args),
        hashKeys: false,
        leaseMs: 1500,
      })
      const { limit, visit } = await serveLimited({ store, limit: 2 })
      const users = Array.from({ length: 100 }, (_, i) => `user-${i}`)
      for (const user of ['mallory', ...users]) await visit(user)
      const [name] = (await redis.keys('*:mallory')) as [string]
      await redis.set(name, 'something else')
      await visit('mallory')
      const until = performance.now() + 3 * 1500
      await eventually(async () => {
        const counts = await Promise.all(users.map((user) => store.count(user)))
        expect(counts).toEqual(users.map(() => 1))
        return performance.now() > until
      })
      expect(limit.isStoreDown).toBe(false)
      await redis.del(name)
      await eventually(async () => (await store.count('mallory')) === 2)
    } finally {
      redis.disconnect()
    }
  })

  test('two limiters on one store keep all of their slots for five leases', async () => {
    const server = await RedisServer.start()
    const redis = new Redis(server.url)
    try {
      const leaseMs = 1000
      const store = new RedisStore({
        sendCommand: (command, ...args) => redis.call(command as string, ...args),
        leaseMs,
      })
      const first = await serveLimited({ store, identifier: 'first' })
      const second = await serveLimited({ store, identifier: 'second' })
      for (let i = 0; i < 5; i += 1) {
        await first.visit('alice')
        await second.visit('bob')
      }
      const until = performance.now() + 5 * leaseMs
      await eventually(async () => {
        expect([await store.count('alice'), await store.count('bob')]).toEqual([5, 5])
        return performance.now() > until
      })
      expect([(await first.visit('alice')).status, (await second.visit('bob')).status]).toEqual([429, 429])
    } finally {
      redis.disconnect()
    }
  })

  test('the next open of a user who was kicked is admitted, without any notice', async () => {
    const server = await RedisServer.start()
    const redis = new Redis(server.url)
    try {
      const store = new RedisStore({
        sendCommand: (command, ...args) => redis.call(command as string, ...args),
      })
      const { limit, results, visit } = await serveLimited({ store, limit: 2 })
      await visit('alice')
      await visit('alice')
      expect(await store.kick('alice')).toHaveLength(2)
      expect((await visit('alice')).status).toBe(200)
      await eventually(() => results.length === 2)
      expect([results.map(({ endedBy }) => endedBy), await limit.count('alice')]).toEqual([
        ['kicked', 'kicked'],
        1,
      ])
    } finally {
      redis.disconnect()
    }
  })

  test('the names of long keys do not fill the memory', async () => {
    const store = new RedisStore({ sendCommand: async () => 1, hashKeys: false })
    const heap = () => {
      global.gc?.()
      return process.memoryUsage().heapUsed
    }
    const before = heap()
    for (let i = 0; i < 4000; i += 1) await store.release(`${i}-${'x'.repeat(12_000)}`, '1')
    // 4,000 keys of 12 KB are 48 MB, and their names twice as much.
    expect(heap() - before).toBeLessThan(40_000_000)
  })
})

describeWithRedis('on a cluster', () => {
  test('the slots of a healthy shard stay while another shard is away and a stream of it has closed', async () => {
    const nodes = await startCluster()
    const cluster = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port })))
    try {
      const leaseMs = 2400
      const store = new RedisStore({
        sendCommand: (command, ...args) => cluster.call(command as string, ...args),
        leaseMs,
        commandTimeoutMs: 400,
      })
      // Its own time limit is for a node that hangs, and this machine may be busy.
      const observer = new RedisStore({
        sendCommand: (command, ...args) => cluster.call(command as string, ...args),
        commandTimeoutMs: 20_000,
      })
      const { limit, visit } = await serveLimited({ store, whenStoreDown: 'refuse', limit: 3 })
      /** Opens a stream and tells which node has its slot. */
      const placed = async (user: string) => {
        const before = await Promise.all(nodes.map((node) => node.cli('DBSIZE')))
        const client = await visit(user)
        const after = await Promise.all(nodes.map((node) => node.cli('DBSIZE')))
        return { user, client, node: nodes[after.findIndex((size, i) => size !== before[i])] }
      }
      const streams = []
      for (let i = 0; i < 12; i += 1) streams.push(await placed(`user-${i}`))
      const away = nodes[0] as RedisServer
      const gone = streams.find(({ node }) => node === away)
      const stays = streams.find(({ node }) => node !== away)
      if (!gone || !stays) throw new Error('All twelve users are on one node')
      await visit(stays.user)

      away.suspend()
      gone.client.close()
      const until = performance.now() + 4 * leaseMs
      await eventually(async () => {
        expect(await observer.count(stays.user)).toBe(2)
        return performance.now() > until
      })
      expect([(await visit(gone.user)).status, (await visit(stays.user)).status]).toEqual([503, 200])
      expect(limit.isStoreDown).toBe(false)

      away.resume()
      await eventually(async () => (await visit(gone.user)).status === 200)
      expect(await observer.count(gone.user)).toBe(1)
    } finally {
      cluster.disconnect()
    }
  })
})
