import { setTimeout } from 'node:timers/promises'
import { open, type StreamClient } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { killLimiterProcesses, LimiterProcess, type LimiterSettings } from './support/limiter-process.js'
import { describeWithRedis, RedisServer } from './support/redis-server.js'

// Several server processes on one Redis, and what may happen to either. What counts is what clients see: which of
// their streams are open.

const LEASE_MS = 900
const RENEWAL_MS = LEASE_MS / 3
const LIMIT = 5
/** What a busy machine may add to the times that are promised. */
const SLACK_MS = 800

describeWithRedis('server processes that share a Redis', () => {
  let redis: RedisServer
  const nodes: LimiterProcess[] = []
  /** Every stream that was admitted and has not been seen to end. */
  const streams = new Set<StreamClient>()

  beforeAll(async () => {
    redis = await RedisServer.start()
  })

  beforeEach(async () => {
    await redis.start()
    await redis.cli('FLUSHALL')
  })

  afterEach(async () => {
    const used = nodes.splice(0)
    await killLimiterProcesses()
    streams.clear()
    expect(used.flatMap(({ faults }) => faults)).toEqual([])
  })

  async function start(count: number, settings: Partial<LimiterSettings> = {}): Promise<LimiterProcess[]> {
    const started = await Promise.all(
      Array.from({ length: count }, (_, index) =>
        LimiterProcess.start({
          redisUrl: redis.url,
          client: index % 2 === 0 ? 'node-redis' : 'ioredis',
          limit: LIMIT,
          leaseMs: LEASE_MS,
          ...settings,
        }),
      ),
    )
    nodes.push(...started)
    return started
  }

  let named = 0
  async function visit(node: LimiterProcess | undefined, user = 'alice'): Promise<StreamClient> {
    named += 1
    const stream = String(named)
    const client = await open(`${(node as LimiterProcess).url}/events`, { headers: { user, stream } })
    if (client.status === 200) {
      streams.add(client)
      client.over.then(() => streams.delete(client))
    }
    return Object.assign(client, { stream })
  }

  async function hold(node: LimiterProcess | undefined, count: number): Promise<StreamClient[]> {
    const held: StreamClient[] = []
    for (let i = 0; i < count; i += 1) held.push(await visit(node))
    expect(held.map(({ status }) => status)).toEqual(held.map(() => 200))
    return held
  }

  const statusOf = async (node: LimiterProcess | undefined) => (await visit(node)).status

  async function countOf(node: LimiterProcess | undefined, user = 'alice'): Promise<number> {
    const response = await fetch(`${(node as LimiterProcess).url}/count/${user}`)
    return ((await response.json()) as { count: number }).count
  }

  /** Slots in Redis itself, as anybody can look them up. */
  async function slotsInRedis(): Promise<number> {
    const names = (await redis.cli('--scan', '--pattern', 'sse:{*}:*')).split('\n').filter(Boolean)
    let slots = 0
    for (const name of names) slots += Number(await redis.cli('ZCARD', name))
    return slots
  }

  async function sinceNow(condition: () => boolean | Promise<boolean>): Promise<number> {
    const from = performance.now()
    await eventually(condition)
    return performance.now() - from
  }

  test('admit exactly 5 of 800 simultaneous opens of one user, twenty times', async () => {
    const four = await start(4, { leaseMs: 30_000, commandTimeoutMs: 500 })
    for (let round = 0; round < 20; round += 1) {
      const clients = await Promise.all(
        four.flatMap((node) => Array.from({ length: 200 }, () => visit(node))),
      )
      const admitted = clients.filter(({ status }) => status === 200)
      expect(admitted).toHaveLength(LIMIT)
      expect(clients.filter(({ status }) => status === 429)).toHaveLength(800 - LIMIT)
      expect(await slotsInRedis()).toBe(LIMIT)
      for (const client of clients) client.close()
      await eventually(async () => (await countOf(four[round % 4])) === 0)
    }
    expect(await slotsInRedis()).toBe(0)
  }, 120_000)

  test('keep users apart, and count over all processes', async () => {
    const [a, b] = await start(2)
    await hold(a, 3)
    await hold(b, 2)
    expect([await statusOf(a), await statusOf(b)]).toEqual([429, 429])
    expect((await visit(a, 'bob')).status).toBe(200)
    expect([await countOf(a), await countOf(b), await countOf(b, 'bob')]).toEqual([5, 5, 1])
  })

  test('go on counting a stream that is older than many leases', async () => {
    const [a, b] = await start(2)
    const held = await hold(a, LIMIT)
    const until = performance.now() + 4 * LEASE_MS
    await eventually(async () => {
      expect(await statusOf(b)).toBe(429)
      return performance.now() > until
    })
    expect(streams.size).toBe(LIMIT)
    held[0]?.close()
    expect(await sinceNow(async () => (await statusOf(b)) === 200)).toBeLessThan(LEASE_MS)
  })

  test('have the slots of a killed one back within a lease and a renewal, and nobody over the cap meanwhile', async () => {
    const [a, b] = await start(2)
    await hold(a, 3)
    await hold(b, 2)
    await a?.kill()
    nodes.splice(nodes.indexOf(a as LimiterProcess), 1)
    let most = 0
    const freeAgain = await sinceNow(async () => {
      await statusOf(b)
      most = Math.max(most, streams.size)
      return streams.size === LIMIT
    })
    expect(freeAgain).toBeLessThan(LEASE_MS + RENEWAL_MS + SLACK_MS)
    expect(most).toBe(LIMIT)
    expect(await statusOf(b)).toBe(429)
    await eventually(async () => (await slotsInRedis()) === LIMIT)
  })

  /** Resolves when the slots of a suspended process have expired. */
  async function suspendForALease(node: LimiterProcess | undefined): Promise<void> {
    node?.suspend()
    const other = nodes.find((candidate) => candidate !== node)
    const held = await countOf(other)
    expect(held).toBeGreaterThan(0)
    await eventually(async () => (await countOf(other)) === 0)
  }

  test('let the streams of one that was suspended live on where there is room', async () => {
    const [a, b] = await start(2)
    await hold(a, 3)
    await suspendForALease(a)
    await hold(b, 2)
    a?.resume()
    await eventually(async () => (await countOf(b)) === 5)
    expect([streams.size, await statusOf(a), await statusOf(b)]).toEqual([5, 429, 429])
    expect(a?.endings).toEqual([])
  })

  test('end the newest streams of one that was suspended where there is no room any more', async () => {
    const [a, b] = await start(2)
    const [first, second, third] = await hold(a, 3)
    await suspendForALease(a)
    await hold(b, 4)
    // It waits in the queue of the kernel, and is the first thing that the process sees when it wakes up.
    const late = visit(a)
    a?.resume()
    await Promise.all([second?.over, third?.over])
    expect((await late).status).toBe(429)
    await eventually(() => a?.endings.length === 2)
    expect(a?.endings.map(({ endedBy }) => endedBy)).toEqual(['evicted', 'evicted'])
    expect([first?.response.closed, streams.size]).toEqual([false, 5])
    expect([await countOf(a), await countOf(b), await slotsInRedis()]).toEqual([5, 5, 5])
  })

  test('lose nothing with the scripts that Redis knows', async () => {
    const [a, b] = await start(2)
    await hold(a, 2)
    await redis.cli('SCRIPT', 'FLUSH')
    await hold(b, 2)
    await redis.cli('SCRIPT', 'FLUSH')
    const held = await hold(a, 1)
    expect(await statusOf(b)).toBe(429)
    await redis.cli('SCRIPT', 'FLUSH')
    held[0]?.close()
    await eventually(async () => (await countOf(b)) === 4)
    expect([a?.warnings, b?.warnings]).toEqual([[], []])
  })

  test('put their streams back after FLUSHALL, within two renewals, and cut none', async () => {
    const [a, b] = await start(2)
    await hold(a, 3)
    await hold(b, 2)
    await redis.cli('FLUSHALL')
    expect(await sinceNow(async () => (await slotsInRedis()) === 5)).toBeLessThan(2 * RENEWAL_MS + SLACK_MS)
    expect([streams.size, await statusOf(a), await statusOf(b)]).toEqual([5, 429, 429])
    expect([a?.endings, b?.endings]).toEqual([[], []])
  })

  test('put their streams back even over the cap, and admit nobody until below it', async () => {
    const [a, b] = await start(2)
    const held = await hold(a, 4)
    await redis.cli('FLUSHALL')
    // Redis has forgotten the four, so this process is let have as many as it may hold alone.
    await hold(b, LIMIT)
    await eventually(async () => (await countOf(b)) === 9)
    expect([streams.size, await statusOf(a), await statusOf(b)]).toEqual([9, 429, 429])
    for (const client of held) client.close()
    await eventually(async () => (await countOf(b)) === 5)
    expect([await statusOf(a), await statusOf(b)]).toEqual([429, 429])
    ;[...streams][0]?.close()
    await eventually(async () => (await statusOf(a)) === 200)
    expect(streams.size).toBe(LIMIT)
  })

  const OUTAGES: [string, () => Promise<() => Promise<unknown>>][] = [
    [
      'CLIENT PAUSE',
      async () => {
        await redis.cli('CLIENT', 'PAUSE', '1500', 'ALL')
        return () => redis.cli('PING')
      },
    ],
    [
      'DEBUG SLEEP',
      async () => {
        const slept = redis.cli('DEBUG', 'SLEEP', '2.5')
        // The command itself takes a moment to start, and until then Redis answers.
        const answers = () => Promise.race([redis.cli('PING').then(() => true), setTimeout(400, false)])
        await eventually(async () => !(await answers()))
        return () => slept
      },
    ],
    [
      'a crash and a restart with an empty dataset',
      async () => {
        await redis.kill()
        return () => redis.start()
      },
    ],
  ]

  test.each(OUTAGES)(
    'go on through %s: nobody waits, nobody is cut, each keeps the cap for itself',
    async (_, begin) => {
      const [a, b] = await start(2)
      await hold(a, 3)
      await hold(b, 2)
      const end = await begin()
      for (const [node, room] of [
        [a, 2],
        [b, 3],
      ] as const) {
        const from = performance.now()
        const clients = await Promise.all(Array.from({ length: 10 }, () => visit(node)))
        expect(performance.now() - from).toBeLessThan(300 + SLACK_MS)
        expect(clients.filter(({ status }) => status === 200)).toHaveLength(room)
        expect(clients.filter(({ status }) => status === 429)).toHaveLength(10 - room)
      }
      expect(streams.size).toBe(2 * LIMIT)
      await end()
      expect(await sinceNow(async () => (await slotsInRedis()) === 2 * LIMIT)).toBeLessThan(
        2 * RENEWAL_MS + SLACK_MS,
      )
      await eventually(async () => (await countOf(a)) === 10 && (await countOf(b)) === 10)
      expect([await statusOf(a), await statusOf(b), streams.size]).toEqual([429, 429, 10])
      expect([a?.endings, b?.endings]).toEqual([[], []])
      for (const client of streams) client.close()
      await eventually(async () => (await slotsInRedis()) === 0)
      for (const node of [a, b]) expect(node?.warnings).toHaveLength(1)
      await hold(a, 3)
      await hold(b, 2)
      expect([await statusOf(a), await statusOf(b)]).toEqual([429, 429])
    },
  )

  test('are not disturbed by one whose clock is ten minutes off', async () => {
    const [a] = await start(1)
    const [early] = await start(1, { clockOffsetMs: -600_000 })
    const [late] = await start(1, { clockOffsetMs: 600_000 })
    const held = await hold(late, 2)
    await hold(early, 2)
    await hold(a, 1)
    const until = performance.now() + 3 * LEASE_MS
    await eventually(async () => {
      for (const node of [early, a, late]) expect(await statusOf(node)).toBe(429)
      return performance.now() > until
    })
    expect([streams.size, await slotsInRedis()]).toEqual([5, 5])
    held[0]?.close()
    await eventually(async () => (await countOf(early)) === 4)
    expect(await statusOf(early)).toBe(200)
    await late?.kill()
    nodes.splice(nodes.indexOf(late as LimiterProcess), 1)
    expect(await sinceNow(async () => (await countOf(early)) === 4)).toBeLessThan(
      LEASE_MS + RENEWAL_MS + SLACK_MS,
    )
  })
})
