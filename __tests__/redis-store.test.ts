import { connect, createServer, type Socket } from 'node:net'
import { RedisStore, type RedisStoreOptions } from 'express-sse-guard/redis'
import { eventually } from './support/eventually.js'
import { serveLimited } from './support/limited-server.js'
import { connectBoth, type TestClient } from './support/redis-clients.js'
import { describeWithRedis, RedisServer } from './support/redis-server.js'

describe('the options of RedisStore', () => {
  const sendCommand = async () => null

  test.each<[string, unknown, string]>([
    ['nothing', undefined, 'RedisStore: options is undefined; give an object with at least sendCommand'],
    ['no command', {}, 'RedisStore: sendCommand is undefined; give a function that sends a command'],
    [
      'a client',
      { sendCommand: { secret: 1 } },
      'RedisStore: sendCommand is [Object]; give a function, not the client',
    ],
    ['both', { sendCommand, sendCommandCluster: sendCommand }, 'either it or sendCommand, not both'],
    [
      'a subscribe that is none',
      { sendCommand, subscribe: 'yes' },
      "RedisStore: subscribe is 'yes'; give a function",
    ],
    ['a prefix with a tag', { sendCommand, prefix: 'a{b}' }, "RedisStore: prefix is 'a{b}'; give a string"],
    [
      'leaseMs as text',
      { sendCommand, leaseMs: '30s' },
      "RedisStore: leaseMs is '30s'; give an integer from 1",
    ],
    ['leaseMs of 0', { sendCommand, leaseMs: 0 }, 'RedisStore: leaseMs is 0; give an integer from 1'],
    ['leaseMs beyond timers', { sendCommand, leaseMs: 2 ** 31 }, 'RedisStore: leaseMs is 2147483648; give'],
    [
      'a timeout of NaN',
      { sendCommand, commandTimeoutMs: Number.NaN },
      'RedisStore: commandTimeoutMs is NaN; give',
    ],
    ['hashKeys as text', { sendCommand, hashKeys: 'no' }, "RedisStore: hashKeys is 'no'; give true or false"],
    [
      'an option that is none',
      { sendCommand, leaseMS: 5 },
      "RedisStore has no option 'leaseMS'; did you mean leaseMs?",
    ],
    ['a misspelt sendCommand', { sendComand: sendCommand }, 'did you mean sendCommand?'],
  ])('reject %s when the store is made, and say what to give', (_, options, message) => {
    expect(() => new RedisStore(options as RedisStoreOptions)).toThrow(message)
  })
})

describe('what sendCommand resolves with', () => {
  test.each([
    ['is an answer as numbers', [1, 3], { granted: true, held: 3 }],
    ['is an answer as text', ['0', '5'], { granted: false, held: 5 }],
    ['is an answer as bytes', [Buffer.from('1'), Buffer.from('1')], { granted: true, held: 1 }],
  ])('%s', async (_, reply, grant) => {
    expect(await new RedisStore({ sendCommand: async () => reply }).acquire('a', '1', 5)).toEqual(grant)
  })

  test.each([[undefined], [null], ['OK'], [[null, 1]], [[1]]])('is no answer: %p', async (reply) => {
    const store = new RedisStore({ sendCommand: async () => reply })
    await expect(store.acquire('a', '1', 5)).rejects.toThrow(
      "let it return what the client's own call returns",
    )
  })

  test('may be thrown instead, and is then a rejection', async () => {
    const store = new RedisStore({
      sendCommand: () => {
        throw new Error('no client yet')
      },
    })
    await expect(store.count('a')).rejects.toThrow('no client yet')
  })
})

describeWithRedis('RedisStore', () => {
  let redis: RedisServer
  let clients: Record<'node-redis' | 'ioredis', TestClient>

  beforeAll(async () => {
    redis = await RedisServer.start()
    clients = await connectBoth(redis)
  })

  beforeEach(() => redis.cli('FLUSHALL'))

  const keys = async () => (await redis.cli('KEYS', '*')).split('\n').filter(Boolean).sort()

  test('shows no user id in Redis, and puts what belongs together under one of 64 tags', async () => {
    const store = new RedisStore({ sendCommand: clients.ioredis.sendCommand })
    const tags = new Set<string>()
    for (let i = 0; i < 300; i += 1) await store.acquire(`alice${i}@example.com`, `slot${i}`, 5)
    for (const name of await keys()) {
      expect(name).toMatch(/^sse:\{\d\d?\}[:!][\w-]{22}$/)
      tags.add(/\{(\d+)\}/.exec(name)?.[1] as string)
    }
    expect(Math.max(...[...tags].map(Number))).toBeLessThan(64)
    expect(tags.size).toBeGreaterThan(50)
    expect(await redis.cli('EVAL', "return table.concat(redis.call('KEYS', '*alice*'))", '0')).toBe('')
  })

  test('shows user ids in clear if asked, under the prefix that was given', async () => {
    const { sendCommand } = clients['node-redis']
    const store = new RedisStore({ sendCommand, hashKeys: false, prefix: 'app1:' })
    await store.acquire('alice', 'slot', 5)
    expect((await keys()).join()).toMatch(/^app1:\{\d+\}!alice,app1:\{\d+\}:alice$/)
  })

  test('keeps a slot as a member of a sorted set, with its expiry by the clock of Redis', async () => {
    const { sendCommand } = clients['node-redis']
    const store = new RedisStore({ sendCommand, leaseMs: 5000, hashKeys: false })
    await store.acquire('alice', 'slot-1', 5)
    const name = (await keys()).find((key) => key.endsWith(':alice')) as string
    const [seconds] = (await redis.cli('TIME')).split('\n')
    const [member, score] = (await redis.cli('ZRANGE', name, '0', '-1', 'WITHSCORES')).split('\n')
    expect(member).toBe('slot-1')
    expect(Math.abs(Number(score) - Number(seconds) * 1000 - 5000)).toBeLessThan(1500)
  })

  test('leaves nothing in Redis that does not expire, and nothing at all of what was released', async () => {
    const { sendCommand } = clients.ioredis
    const store = new RedisStore({ sendCommand, leaseMs: 5000 })
    for (const slotId of ['1', '2', '3']) await store.acquire('alice', slotId, 2, { evictOldest: true })
    await store.renew([{ key: 'alice', slotId: '3' }])
    await store.acquire('bob', '4', 1)
    for (const name of await keys()) {
      const ms = Number(await redis.cli('PTTL', name))
      expect(ms).toBeGreaterThan(10_000)
      expect(ms).toBeLessThanOrEqual(15_000)
    }
    await store.release('bob', '4')
    await store.release('alice', '2')
    await store.release('alice', '3')
    // The tombstone.
    expect(await keys()).toHaveLength(1)
  })

  test('remembers for two leases what was ended on purpose', async () => {
    const store = new RedisStore({ sendCommand: clients.ioredis.sendCommand, leaseMs: 40_000 })
    await store.acquire('alice', '1', 1)
    await store.kick('alice')
    const [name] = (await keys()) as [string]
    const [seconds] = (await redis.cli('TIME')).split('\n')
    const score = Number((await redis.cli('ZRANGE', name, '0', '-1', 'WITHSCORES')).split('\n').at(-1))
    const leftMs = -score - Number(seconds) * 1000
    expect(leftMs).toBeGreaterThan(75_000)
    expect(leftMs).toBeLessThan(82_000)
    expect(Number(await redis.cli('PTTL', name))).toBeGreaterThan(leftMs)
  })

  test('forgets a tombstone after two leases, also where streams come and go all the time', async () => {
    const store = new RedisStore({ sendCommand: clients.ioredis.sendCommand, leaseMs: 100 })
    let taken = 0
    /** Takes the place of the last stream, and asks what became of another. */
    const evictAndAsk = async (slot: () => number) => {
      taken += 1
      await store.acquire('alice', `${taken}`, 1, { evictOldest: true })
      const [state] = await store.renew([{ key: 'alice', slotId: `${slot()}` }])
      return state
    }
    await eventually(async () => (await evictAndAsk(() => 1)) === 'lost')
    // Asked again, as a busy machine may take two leases for one answer.
    await eventually(async () => (await evictAndAsk(() => taken - 1)) === 'evicted')
  })

  test('forgets tombstones also where one stream stays open all the time', async () => {
    const { sendCommand } = clients['node-redis']
    const store = new RedisStore({ sendCommand, leaseMs: 500, hashKeys: false })
    for (let i = 0; i < 20; i += 1) await store.acquire('alice', `${i}`, Infinity)
    await store.kick('alice')
    await store.acquire('alice', 'stays', Infinity)
    const [history] = (await keys()) as [string]
    expect(await redis.cli('ZCARD', history)).toBe('21')
    await eventually(async () => {
      expect(await store.renew([{ key: 'alice', slotId: 'stays' }])).toEqual(['renewed'])
      return (await redis.cli('ZCARD', history)) === '1'
    })
  })

  test('evicts thousands at once', async () => {
    const { sendCommand } = clients.ioredis
    const store = new RedisStore({ sendCommand, commandTimeoutMs: 20_000 })
    await Promise.all(Array.from({ length: 9000 }, (_, i) => store.acquire('alice', `${i}`, Infinity)))
    const { granted, held, evicted } = await store.acquire('alice', 'last', 2, { evictOldest: true })
    expect([granted, held, evicted?.length]).toEqual([true, 2, 8999])
  })

  test.each([true, false])(
    'keeps keys apart that are no well-formed text (hashKeys: %p)',
    async (hashKeys) => {
      const store = new RedisStore({ sendCommand: clients.ioredis.sendCommand, hashKeys })
      const strange = ['\ud800', '\ud801', '\udc00', '\ufffd', '"\\ud800"', '"', '\\"', '""']
      for (const [i, key] of strange.entries()) {
        expect([key, await store.acquire(key, `slot${i}`, 1)]).toEqual([key, { granted: true, held: 1 }])
      }
    },
  )

  test('forgets a slot that expired beside one that did not', async () => {
    const store = new RedisStore({ sendCommand: clients.ioredis.sendCommand, leaseMs: 300, hashKeys: false })
    const [left, kept] = [
      { key: 'alice', slotId: 'left' },
      { key: 'alice', slotId: 'kept' },
    ]
    await store.acquire('alice', 'left', 2)
    await store.acquire('alice', 'kept', 2)
    await eventually(async () => {
      await store.renew([kept])
      return (await store.count('alice')) === 1
    })
    expect(await store.renew([left, kept])).toEqual(['lost', 'renewed'])
    const members = async () => {
      await store.renew([kept])
      return Promise.all((await keys()).map((name) => redis.cli('ZRANGE', name, '0', '-1')))
    }
    await eventually(async () => (await members()).join() === 'kept,kept')
  })

  test('renews thousands of leases of many users, in the order that was asked for', async () => {
    const { sendCommand } = clients['node-redis']
    const store = new RedisStore({ sendCommand, commandTimeoutMs: 20_000 })
    const leases = Array.from({ length: 3000 }, (_, i) => ({ key: `user${i % 700}`, slotId: `slot${i}` }))
    await Promise.all(
      leases.filter((_, i) => i % 3 > 0).map(({ key, slotId }) => store.acquire(key, slotId, Infinity)),
    )
    expect(await store.renew(leases)).toEqual(leases.map((_, i) => (i % 3 > 0 ? 'renewed' : 'lost')))
  })

  test.each(['node-redis', 'ioredis'] as const)(
    'ends streams of other processes at once by notice (%s)',
    async (name) => {
      const settings = { ...clients[name], leaseMs: 60_000, prefix: `${name}:` }
      const [here, there] = [new RedisStore(settings), new RedisStore(settings)]
      const { results, visit } = await serveLimited({ store: here })
      const [first, second, other] = [await visit(), await visit(), await visit('bob')]
      await eventually(
        async () => Number((await redis.cli('PUBSUB', 'NUMSUB', `${name}:ended`)).split('\n')[1]) > 0,
      )
      await there.acquire('alice', 'elsewhere', 2, { evictOldest: true })
      await first.over
      await there.kick('alice')
      await second.over
      await eventually(() => results.length === 2)
      expect([results.map(({ endedBy }) => endedBy), other.response.closed]).toEqual([
        ['evicted', 'kicked'],
        false,
      ])
    },
  )

  test('warns of a subscription that fails, and does without it', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const { sendCommand } = clients.ioredis
    for (const subscribe of [
      () => Promise.reject(new Error('no such channel')),
      () => {
        throw new Error('no such channel')
      },
    ]) {
      await serveLimited({ store: new RedisStore({ sendCommand, subscribe }) })
      await eventually(() => warn.mock.calls.length > 0)
      expect(String(warn.mock.calls.pop()?.[0])).toMatch(/^RedisStore could not subscribe: no such channel\./)
    }
    warn.mockRestore()
  })

  /** Redis behind a relay that drops the connection once a slot was taken, before the answer arrives. */
  async function relay() {
    const sockets = new Set<Socket>()
    let isArmed = false
    const server = createServer((client) => {
      const upstream = connect(redis.port, '127.0.0.1')
      let isDropping = false
      for (const socket of [client, upstream]) {
        sockets.add(socket)
        socket.on('error', () => {})
        socket.on('close', () => {
          client.destroy()
          upstream.destroy()
        })
      }
      client.on('data', (data) => {
        if (isArmed && /EVAL/.test(data.toString())) isDropping = true
        upstream.write(data)
      })
      upstream.on('data', (data) => {
        if (!isDropping) return client.write(data)
        isArmed = false
        client.resetAndDestroy()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    return {
      url: `redis://127.0.0.1:${port}`,
      drop: () => {
        isArmed = true
      },
      close: () => {
        for (const socket of sockets) socket.destroy()
        server.close()
      },
    }
  }

  test.each([
    ['node-redis', 'local'],
    ['ioredis', 'local'],
    ['node-redis', 'refuse'],
    ['ioredis', 'refuse'],
  ] as const)(
    'counts a stream once whose acquire was answered by a reset connection (%s, %s)',
    async (name, whenStoreDown) => {
      const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
      const relayed = await relay()
      const { sendCommand } = (await connectBoth(relayed))[name]
      const { limit, visit } = await serveLimited({
        store: new RedisStore({ sendCommand, prefix: `${name}:` }),
        whenStoreDown,
      })
      const truth = new RedisStore({ sendCommand: clients[name].sendCommand, prefix: `${name}:` })
      await visit('bob')
      relayed.drop()
      // ioredis sends the command once more by itself.
      const isSentAgain = name === 'ioredis'
      const client = await visit()
      expect(client.status).toBe(whenStoreDown === 'refuse' && !isSentAgain ? 503 : 200)
      const held = client.status === 200 ? 1 : 0
      await eventually(
        async () => (await truth.count('alice')) === held && (await limit.count('alice')) === held,
      )
      expect(limit.open).toBe(1 + held)
      client.close()
      await eventually(async () => (await truth.count('alice')) === 0)
      relayed.close()
      warn.mockRestore()
    },
  )
})
