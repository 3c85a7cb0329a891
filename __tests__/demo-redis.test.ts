import { shareSlots } from '../demo-server/shared-slots.js'
import { ALICE, BOB, problemOf } from './support/demo-client.js'
import { DemoProcess } from './support/demo-process.js'
import { eventually } from './support/eventually.js'
import { describeWithRedis, RedisServer } from './support/redis-server.js'

/** A port of this machine on which nobody listens: Linux gives it to no outgoing connection. */
const NOBODY = 'redis://127.0.0.1:1'

const AWAY = /^No Redis on redis:.*$/gm
const SHARED = /^The cap is shared with all demos on redis:.*$/gm

const linesOf = (demo: DemoProcess, line: RegExp) => demo.output.match(line) ?? []

describeWithRedis('demos with one Redis', () => {
  test('share the cap, and each says who it is', async () => {
    const { url } = await RedisServer.start()
    const [one, other] = await startTwo(url)
    const streams = await Promise.all([...times(3, () => one.watch()), ...times(2, () => other.watch())])
    expect(streams.map(({ status }) => status)).toEqual(Array(5).fill(200))

    for (const demo of [one, other]) {
      expect(await problemOf(await demo.watch())).toMatchObject({
        status: 429,
        body: { code: 'ERR_STREAM_LIMIT' },
      })
      expect((await demo.watch(BOB)).status).toBe(200)
    }
    const alice = { name: 'alice', role: 'viewer', used: 5, cap: 5, shared: true }
    expect(await one.whoami()).toEqual({ ...alice, usedHere: 3, pid: one.pid, port: one.port })
    expect(await other.whoami()).toEqual({ ...alice, usedHere: 2, pid: other.pid, port: other.port })

    streams[0]?.close()
    await eventually(async () => (await other.whoami()).used === 4)
    expect((await other.watch()).status).toBe(200)
    expect((await one.watch()).status).toBe(429)
  })

  test('give the slots of one that ends back at once', async () => {
    const { url } = await RedisServer.start()
    const [one, other] = await startTwo(url)
    await Promise.all(times(5, () => one.watch()))
    expect((await other.whoami()).used).toBe(5)
    expect(await one.end('SIGINT')).toBe(0)
    expect((await other.whoami()).used).toBe(0)
  })

  test('go on without it, each counting for itself, and share again when it is back', async () => {
    const redis = await RedisServer.start()
    const [one, other] = await startTwo(redis.url)
    const streams = await Promise.all([...times(3, () => one.watch()), ...times(2, () => other.watch())])
    await redis.kill()

    for (const [demo, usedHere] of [[one, 3] as const, [other, 2] as const]) {
      await eventually(() => linesOf(demo, AWAY).length > 0)
      expect(await demo.whoami()).toMatchObject({ used: usedHere, usedHere, shared: false })
      expect((await demo.watch(BOB)).status).toBe(200)
    }
    await redis.start()

    for (const demo of [one, other]) {
      await eventually(async () => (await demo.whoami()).used === 5)
      await eventually(async () => (await demo.whoami(BOB)).used === 2)
      expect(await demo.whoami()).toMatchObject({ shared: true })
      expect((await demo.watch()).status).toBe(429)
      // One line for each change, although the client has tried many times.
      expect(linesOf(demo, AWAY)).toHaveLength(1)
      expect(linesOf(demo, SHARED)).toHaveLength(2)
    }
    expect(streams.filter(({ response }) => response.closed)).toEqual([])
  })

  test('may be there before it', async () => {
    const redis = await RedisServer.start()
    await redis.kill()
    const [one, other] = await startTwo(redis.url)
    await one.watch()
    expect(await one.whoami()).toMatchObject({ used: 1, shared: false })
    await redis.start()
    await eventually(async () => (await other.whoami()).used === 1)
  })

  test('end on Ctrl-C with code 0 when it has gone, or hangs', async () => {
    const redis = await RedisServer.start()
    const [one, other] = await startTwo(redis.url)
    await Promise.all([one.watch(), other.watch()])
    process.kill(redis.pid, 'SIGSTOP')
    expect(await one.end('SIGINT')).toBe(0)
    await redis.kill()
    await eventually(() => linesOf(other, AWAY).length > 0)
    expect(await other.end('SIGINT')).toBe(0)
  })

  test('end with one line when the port is taken', async () => {
    const { url } = await RedisServer.start()
    const { port } = await DemoProcess.start({ REDIS_URL: url })
    const second = new DemoProcess({ REDIS_URL: url, PORT: String(port) })
    expect(await second.end()).toBe(1)
    expect(second.output).toContain(`Port ${port} is taken by another program.`)
  })
})

describe('a demo whose Redis is not there', () => {
  test('serves, says so in one line without the password, and ends on Ctrl-C with code 0', async () => {
    const demo = await DemoProcess.start({ REDIS_URL: NOBODY.replace('//', '//me:secret@') })
    expect(linesOf(demo, AWAY)).toEqual([
      'No Redis on redis://***@127.0.0.1:1 (connect ECONNREFUSED 127.0.0.1:1): until it is there, this process counts for itself.',
    ])
    const streams = await Promise.all(times(5, () => demo.watch(ALICE)))
    expect(streams.map(({ status }) => status)).toEqual(Array(5).fill(200))
    expect((await demo.watch(ALICE)).status).toBe(429)
    expect(await demo.whoami()).toMatchObject({ used: 5, usedHere: 5, shared: false })
    expect(demo.output).not.toContain('secret')

    const before = performance.now()
    expect(await demo.end('SIGINT')).toBe(0)
    expect(performance.now() - before).toBeLessThan(3000)
  })

  test.each([
    ['localhost:6379', 'localhost:6379'],
    ['http://me:secret@localhost', 'http://***@localhost'],
    ['redis://me:secret@localhost/first', 'redis://***@localhost/first'],
    ['redis://me:sec/ret@localhost', 'redis://***@localhost'],
    ['redis://me:secret%@localhost', 'redis://***@localhost'],
    ['redis://:secret', 'redis://:***'],
    ['http://me:secret@[::1]:6379', 'http://***@[::1]:6379'],
    ['http://localhost?password=secret', 'http://localhost?***'],
  ])('cannot have the REDIS_URL %p, and quotes it without the password', async (url, shown) => {
    await expect(shareSlots(url)).rejects.toThrow(`REDIS_URL is '${shown}'; give redis://host:port`)
  })

  test('does not start with an empty REDIS_URL, and says in one line what to type', async () => {
    const demo = new DemoProcess({ REDIS_URL: '' })
    expect(await demo.end()).toBe(1)
    expect(demo.output).toBe(
      "REDIS_URL is ''; give redis://host:port or rediss://host:port, such as " +
        'REDIS_URL=redis://127.0.0.1:6379, or unset it\n',
    )
  })
})

describe('a demo without REDIS_URL', () => {
  test('counts by itself, says how to share, and ends on Ctrl-C with code 0', async () => {
    const demo = await DemoProcess.start()
    await demo.watch()
    expect(await demo.whoami()).toMatchObject({ used: 1, usedHere: 1, shared: false, pid: demo.pid })
    expect(demo.output).toContain('REDIS_URL=redis://127.0.0.1:6379')
    expect(await demo.end('SIGINT')).toBe(0)
  })
})

function startTwo(REDIS_URL: string) {
  return Promise.all([DemoProcess.start({ REDIS_URL }), DemoProcess.start({ REDIS_URL })])
}

function times<Value>(count: number, make: () => Value): Value[] {
  return Array.from({ length: count }, make)
}
