import { createServer } from 'node:net'
import express from 'express'
import { problemJson, type StreamEvent } from 'express-sse-guard'
import { createApp } from '../demo-server/app.js'
import { EventBus } from '../demo-server/event-bus.js'
import { hideFaults } from '../demo-server/hide-faults.js'
import { explainListenError, isLoopback, readListenAddress } from '../demo-server/listen-address.js'
import { get, raw } from './support/clients.js'
import { ALICE, BOB, payloadOf, payloadsOf, problemOf, ROOT, startDemo } from './support/demo-client.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'

const QUESTION = JSON.stringify({ question: 'How many requests have you seen?' })

describe('the stream of the demo', () => {
  test("brings a viewer the other requests that the server serves, without the visitor's address and program", async () => {
    const demo = await startDemo()
    const stream = await demo.watch(ALICE)
    await demo.get('/whoami?token=secret', { ...BOB, 'User-Agent': 'test-agent' })
    // Published after the first, so nothing that belongs to the first is still to come.
    await demo.get('/nothing-here')

    await payloadOf(stream, 'request.seen', ({ path }) => path === '/nothing-here')
    expect(payloadsOf(stream, 'request.seen')).toEqual([
      { method: 'GET', path: '/whoami', status: 200, durationMs: expect.any(Number) },
      { method: 'GET', path: '/nothing-here', status: 404, durationMs: expect.any(Number) },
    ])
    expect(payloadsOf(stream, 'request.detail')).toEqual([])
    expect(stream.text).not.toMatch(/127\.0\.0\.1|test-agent|secret/)
  })

  test('brings an admin also the address, the program and the details, but no credentials and no query', async () => {
    const demo = await startDemo()
    const stream = await demo.watch(ROOT)
    await demo.get('/whoami?token=secret', {
      ...BOB,
      'User-Agent': 'test-agent',
      Cookie: 'sid=1',
      'X-Key': 'k',
    })

    expect(await payloadOf(stream, 'request.seen')).toMatchObject({
      path: '/whoami',
      ip: expect.stringContaining('127.0.0.1'),
      userAgent: 'test-agent',
    })
    const { headers, bytesSent } = await payloadOf(stream, 'request.detail')
    expect(bytesSent).toBeGreaterThan(50)
    expect(headers.host).toBe(new URL(demo.url).host)
    expect(stream.text).not.toMatch(/secret|viewer:bob|sid=1|"k"/)
  })

  test('shows a stream that its reader left, with the status it had', async () => {
    const demo = await startDemo()
    const stream = await demo.watch(ALICE)
    const other = await demo.watch(BOB)
    other.close()
    expect(await payloadOf(stream, 'request.seen')).toMatchObject({ path: '/events', status: 200 })
  })

  test('brings the load of the process every second once the demo was started, its pid to admins only', async () => {
    const demo = await startDemo()
    const [viewer, admin] = await Promise.all([demo.watch(ALICE), demo.watch(ROOT)])
    demo.start()
    const figures = {
      loadAverage: expect.any(Number),
      cpuPercent: expect.any(Number),
      memoryMb: expect.any(Number),
      eventLoopDelayMs: expect.any(Number),
    }
    expect(await payloadOf(viewer, 'process.load')).toEqual(figures)
    expect(await payloadOf(admin, 'process.load')).toEqual({ ...figures, pid: process.pid })
  })

  test('leaves a second out in which its figures cannot be had, as when there are too many connections', async () => {
    jest.spyOn(process.memoryUsage, 'rss').mockImplementationOnce(() => {
      throw new Error('EMFILE')
    })
    const demo = await startDemo()
    const viewer = await demo.watch(ALICE)
    demo.start()
    expect(await payloadOf(viewer, 'process.load')).toMatchObject({ memoryMb: expect.any(Number) })
  })

  test('is answered to HEAD with the headers of a GET, without a slot', async () => {
    const demo = await startDemo()
    const head = await demo.get('/events', ALICE, 'HEAD')
    const { response } = await demo.watch(ALICE)
    const { date, connection, ...headers } = response.headers
    expect(head.status).toBe(200)
    expect(Object.fromEntries(head.headers)).toMatchObject({
      ...headers,
      'content-type': 'text/event-stream',
    })
    expect(await demo.whoami(ALICE)).toMatchObject({ used: 1 })
  })
})

describe('the cap of the demo', () => {
  test('refuses the sixth stream of a user with a problem, and a freed slot can be taken again', async () => {
    const demo = await startDemo()
    const admin = await demo.watch(ROOT)
    const streams = await Promise.all(Array.from({ length: 5 }, () => demo.watch(ALICE)))
    expect(streams.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200])

    expect(await problemOf(await demo.watch(ALICE))).toEqual({
      status: 429,
      type: 'application/problem+json',
      body: expect.objectContaining({ title: 'Too Many Requests', status: 429, code: 'ERR_STREAM_LIMIT' }),
    })
    expect((await demo.watch(BOB)).status).toBe(200)

    streams[0]?.close()
    await payloadOf(admin, 'request.seen', ({ path, status }) => path === '/events' && status === 200)
    expect((await demo.watch(ALICE)).status).toBe(200)
    expect((await demo.watch(ALICE)).status).toBe(429)
  })

  test('counts the streams and the answers of one user together', async () => {
    const demo = await startDemo({ tokenDelayMs: 10_000 })
    const process = {
      cap: 5,
      shared: false,
      pid: globalThis.process.pid,
      port: Number(new URL(demo.url).port),
    }
    const none = { ...process, used: 0, usedHere: 0 }
    expect(await demo.whoami(ALICE)).toEqual({ ...none, name: 'alice', role: 'viewer' })
    await demo.watch(ALICE)
    await demo.ask(QUESTION)
    expect(await demo.whoami(ALICE)).toMatchObject({ used: 2, usedHere: 2 })
    expect(await demo.whoami(ROOT)).toEqual({ ...none, name: 'root', role: 'admin' })
    for (let held = 2; held < 5; held += 1) await demo.watch(ALICE)
    expect((await problemOf(await demo.ask(QUESTION))).body.code).toBe('ERR_STREAM_LIMIT')
  })

  test('forgets streams that were waiting in a pipeline when their connection died', async () => {
    const demo = await startDemo()
    const client = await raw(Number(new URL(demo.url).port))
    client.send(get('/events', `Authorization: ${ALICE.Authorization}`).repeat(4))
    await eventually(async () => (await demo.whoami(ALICE)).usedHere === 4)
    client.destroy()
    await eventually(async () => (await demo.whoami(ALICE)).usedHere === 0)
    expect((await demo.whoami(ALICE)).used).toBe(0)
  })

  test('is what SSE_MAX_PER_USER says, and a value that is no number stops the start', async () => {
    const before = process.env.SSE_MAX_PER_USER
    try {
      process.env.SSE_MAX_PER_USER = '1'
      const demo = await startDemo()
      expect((await demo.watch(ALICE)).status).toBe(200)
      expect((await demo.watch(ALICE)).status).toBe(429)
      expect(await demo.whoami(ALICE)).toMatchObject({ used: 1, cap: 1 })
      process.env.SSE_MAX_PER_USER = 'many'
      expect(() => createApp()).toThrow("SSE_MAX_PER_USER is 'many'")
    } finally {
      if (before === undefined) delete process.env.SSE_MAX_PER_USER
      else process.env.SSE_MAX_PER_USER = before
    }
  })
})

describe('a question', () => {
  test('is answered word by word from the figures of the server, and the client is told not to come back', async () => {
    const demo = await startDemo({ tokenDelayMs: 1 })
    await demo.get('/whoami', ALICE)
    await demo.get('/whoami')
    const stream = await demo.ask(QUESTION)
    await stream.over

    const words = payloadsOf(stream, 'answer.token').map(({ text }) => text)
    expect(words.length).toBeGreaterThan(5)
    expect(words.join('')).toMatch(/^I have answered 2 requests since I started: 1 with an error status/)
    expect(payloadsOf(stream, 'answer.done')).toEqual([{ tokens: words.length }])
    expect(stream.events.at(-1)?.event).toBe('answer.done')
    expect(stream.retries.at(-1)).toBe(2147483647)
    expect(await demo.whoami(ALICE)).toMatchObject({ used: 0 })
  })

  test.each([
    ['How many slots do I hold?', /^You hold 1 of 5 slots/],
    ['For how long have you been up?', /^I have been up for \d+ seconds/],
    ['Are you busy?', /^The load averages are [\d.]+, [\d.]+, [\d.]+ on \d+ cores/],
    ['How much memory do you need?', /^I use \d+ MB of memory/],
    ['What is the meaning of life?', /one of these: requests, streams, uptime, load, memory/],
  ])('%s', async (question, said) => {
    const demo = await startDemo({ tokenDelayMs: 1 })
    const stream = await demo.ask(JSON.stringify({ question }))
    await stream.over
    const words = payloadsOf(stream, 'answer.token').map(({ text }) => text)
    expect(words.join('')).toMatch(said)
  })

  test('whose asker leaves is not answered any further', async () => {
    const demo = await startDemo({ tokenDelayMs: 50 })
    const [viewer, admin] = await Promise.all([demo.watch(BOB), demo.watch(ROOT)])
    const stream = await demo.ask(QUESTION)
    await payloadOf(stream, 'answer.token')
    stream.close()

    const { tokens, of, askedBy } = await payloadOf(admin, 'answer.ended')
    expect(tokens).toBeLessThan(of)
    expect(askedBy).toBe('alice')
    expect(await payloadOf(viewer, 'answer.ended')).toEqual({ tokens, of })
    expect(await demo.whoami(ALICE)).toMatchObject({ used: 0 })
  })

  test('whose asker leaves during the wait for a word is given up at once, and not when the wait is over', async () => {
    const demo = await startDemo({ tokenDelayMs: 3_600_000 })
    const admin = await demo.watch(ROOT)
    const stream = await demo.ask(QUESTION)
    stream.close()
    expect(await payloadOf(admin, 'answer.ended')).toMatchObject({ tokens: 0 })
  })

  test.each([
    ['malformed JSON', '{"question":', /not valid JSON.*\{"question": /],
    ['a body that is no object', '[]', /no "question" in the body/],
    ['no question', '{}', /no "question" in the body/],
    ['a question that is no text', '{"question": 7}', /must be a text/],
    ['an empty question', '{"question": " "}', /must be a text/],
    [
      'a question that is too long',
      JSON.stringify({ question: 'a'.repeat(301) }),
      /301 characters; at most 300/,
    ],
    ['no body', undefined, /no "question" in the body/],
  ])('with %s is refused with 400, says what to send, and takes no slot', async (_what, body, detail) => {
    const demo = await startDemo()
    expect(await problemOf(await demo.ask(body))).toEqual({
      status: 400,
      type: 'application/problem+json',
      body: { type: 'about:blank', title: 'Bad Request', status: 400, detail: expect.stringMatching(detail) },
    })
    expect(await demo.whoami(ALICE)).toMatchObject({ used: 0 })
  })

  test('that is not sent as JSON is refused with 400', async () => {
    const demo = await startDemo()
    const { status, body } = await problemOf(
      await demo.ask(QUESTION, { ...ALICE, 'Content-Type': 'text/plain' }),
    )
    expect(status).toBe(400)
    expect(body.detail).toContain('Content-Type: application/json')
  })
})

describe('the demo', () => {
  test.each([
    '',
    'Bearer',
    'Bearer viewer:',
    'Bearer editor:alice',
    'Bearer viewer:a b',
    'Basic dmlld2VyOmE=',
  ])('answers 401 to the credentials %p', async (Authorization) => {
    const demo = await startDemo()
    for (const path of ['/events', '/whoami']) {
      const response = await demo.get(path, { Authorization })
      expect(response.status).toBe(401)
      expect(response.headers.get('WWW-Authenticate')).toBe('Bearer')
      expect(response.headers.get('Content-Type')).toBe('application/problem+json')
      expect(await response.json()).toMatchObject({ detail: expect.stringContaining('Bearer viewer:alice') })
    }
    expect((await demo.ask(QUESTION, { Authorization })).status).toBe(401)
  })

  test('says on / what to try, and answers 404 with a problem elsewhere', async () => {
    const demo = await startDemo()
    expect(await (await demo.get('/')).text()).toContain(`localhost:${new URL(demo.url).port}/events`)
    const response = await demo.get('/elsewhere')
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ status: 404, detail: expect.stringContaining('GET /') })
  })

  test('answers an unexpected error with a bare 500 and logs it', async () => {
    const log = jest.spyOn(console, 'error').mockImplementation(() => {})
    const app = express()
    app.get('/', () => {
      throw new Error('the password is 1234')
    })
    app.use(problemJson(), hideFaults, problemJson())
    const { url } = await serve(app)
    const response = await fetch(url)
    expect(response.status).toBe(500)
    expect(await response.json()).toEqual({
      type: 'about:blank',
      title: 'Internal Server Error',
      status: 500,
    })
    expect(log).toHaveBeenCalledWith(expect.objectContaining({ message: 'the password is 1234' }))
    log.mockRestore()
  })
})

describe('the event bus', () => {
  test('drops the oldest events of a subscriber whose queue is full, of that one only, and tells it', async () => {
    const bus = new EventBus(2)
    const leaving = new AbortController()
    const slow = bus.subscribe(leaving.signal)[Symbol.asyncIterator]()
    const fast = bus.subscribe(leaving.signal)[Symbol.asyncIterator]()
    const seenByFast: unknown[] = []
    for (const event of ['a', 'b', 'c', 'd']) {
      bus.publish({ event })
      seenByFast.push(((await fast.next()).value as StreamEvent).event)
    }
    expect(seenByFast).toEqual(['a', 'b', 'c', 'd'])
    expect((await slow.next()).value).toEqual({ event: 'events.dropped', data: { count: 2 } })
    expect((await slow.next()).value).toEqual({ event: 'c' })
    expect((await slow.next()).value).toEqual({ event: 'd' })

    const waiting = slow.next()
    leaving.abort()
    expect(await waiting).toEqual({ value: undefined, done: true })
    expect(bus.size).toBe(0)
  })

  test('keeps nothing for a subscriber that had left before it came', async () => {
    const bus = new EventBus()
    const events = bus.subscribe(AbortSignal.abort())
    bus.publish({ event: 'a' })
    expect(await events[Symbol.asyncIterator]().next()).toEqual({ value: undefined, done: true })
    expect(bus.size).toBe(0)
  })
})

describe('the address of the demo', () => {
  test('is port 3000 of this machine only, unless PORT and HOST say otherwise', () => {
    expect(readListenAddress({})).toEqual({ port: 3000, host: '127.0.0.1' })
    expect(readListenAddress({ PORT: '8080', HOST: '0.0.0.0' })).toEqual({ port: 8080, host: '0.0.0.0' })
    expect(['127.0.0.1', '::1', 'localhost', '0.0.0.0', '::', '10.0.0.1'].map(isLoopback)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ])
  })

  test.each(['', 'abc', '-1', '1.5', '65536', '0x50'])('cannot have the port %p, and quotes it', (PORT) => {
    expect(() => readListenAddress({ PORT })).toThrow(`PORT is '${PORT}'; give a number from 0 to 65535`)
  })

  test('cannot have an empty host, which would be every interface', () => {
    expect(() => readListenAddress({ HOST: '' })).toThrow("HOST is ''")
  })

  test('that is taken is explained in one line, which says what to type instead', async () => {
    const { port } = await serve(() => {})
    const server = createServer()
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => {
      server.once('error', resolve)
      server.listen(port, '127.0.0.1')
    })
    expect(explainListenError(error, { port: 3000, host: '127.0.0.1' })).toBe(
      'Port 3000 is taken by another program. Choose another: PORT=3001 npm run demo',
    )
  })
})
