import { once } from 'node:events'
import { createChannel, createSession, type Session } from 'better-sse'
import express, { type Request, type Response } from 'express'
import { defineEvents, type OpenSessionOptions, openSession } from 'express-sse-guard'
import { z } from 'zod'
import { get, open, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'

const events = defineEvents({
  message: true,
  n: true,
  iteration: true,
  stream: true,
  later: z.object({}).refine(async () => true),
})

type Create = (req: Request, res: Response) => Promise<Session>

const requestOf = (sessions: readonly Session[]) => sessions[0]?.getRequest() as globalThis.Request

/** A server that opens a session for each request, and keeps it open. */
async function serveSessions(create: Create = (req, res) => openSession(req, res, { events })) {
  const sessions: Session[] = []
  const app = express()
  app.all('/{*path}', async (req, res) => {
    sessions.push(await create(req, res))
  })
  return { ...(await serve(app)), sessions }
}

async function session(options: Partial<OpenSessionOptions> = {}, requestOptions = {}) {
  const served = await serveSessions((req, res) =>
    openSession(req, res, { events, retry: null, keepAlive: null, ...options }),
  )
  const client = await open(`${served.url}/a?b=c`, requestOptions)
  await eventually(() => served.sessions.length === 1)
  return { ...served, client, session: served.sessions[0] as Session }
}

describe('every public member that a stock session has', () => {
  /** Those that its types do not call private. */
  const PRIVATE = new Set([
    ...[
      'buffer',
      'connection',
      'sanitize',
      'serialize',
      'initialRetry',
      'keepAliveInterval',
      'keepAliveTimer',
    ],
    ...['initialize', 'onDisconnected', 'keepAlive', 'flush'],
  ])
  const isPublic = (name: string) => !name.startsWith('_') && !PRIVATE.has(name)

  test('our session has too, of the same kind', async () => {
    const stock = await serveSessions((req, res) => createSession(req, res))
    const ours = await serveSessions()
    // Not through a client that checks what it reads: the stock session writes a blank line after `retry`.
    for (const { port } of [stock, ours]) (await raw(port)).send(get('/'))
    await eventually(() => stock.sessions.length === 1 && ours.sessions.length === 1)
    const [theirs, own] = [stock.sessions[0], ours.sessions[0]] as unknown as Record<string, unknown>[]
    const names = Object.keys(theirs as object).filter(isPublic)
    expect(names).toEqual(
      expect.arrayContaining([
        'lastId',
        'isConnected',
        'state',
        'push',
        'stream',
        'iterate',
        'batch',
        'getRequest',
      ]),
    )
    expect(names.map((name) => [name, typeof own?.[name]])).toEqual(
      names.map((name) => [name, typeof theirs?.[name]]),
    )
    expect((own as unknown as Session).getMaxListeners()).toBe(
      (theirs as unknown as Session).getMaxListeners(),
    )
  })
})

describe('getRequest', () => {
  test('has a signal for any number of listeners, and the session hears of its end as well', async () => {
    const { session: opened, client } = await session()
    const { signal } = opened.getRequest() as globalThis.Request
    const heard: string[] = []
    signal.addEventListener('abort', () => heard.push('a'))
    signal.addEventListener('abort', () => heard.push('b'))
    const any = AbortSignal.any([signal])
    any.addEventListener('abort', () => heard.push('any'))
    const channel = createChannel().register(opened)
    expect([signal.aborted, channel.sessionCount]).toEqual([false, 1])
    const disconnected = once(opened, 'disconnected')
    client.close()
    await disconnected
    expect(heard.sort()).toEqual(['a', 'any', 'b'])
    expect([signal.aborted, channel.sessionCount, opened.isConnected]).toEqual([true, 0, false])
  })

  test('is aborted when it is first asked for after the end', async () => {
    const { session: opened, client } = await session()
    client.close()
    await once(opened, 'disconnected')
    expect((opened.getRequest() as globalThis.Request).signal.aborted).toBe(true)
  })

  test('is one Request with the method, the headers and the absolute URL', async () => {
    const { session: opened, url } = await session(
      {},
      { method: 'POST', headers: { 'X-Mine': 'a', Cookie: 'b=c' } },
    )
    const request = opened.getRequest() as globalThis.Request
    expect(request).toBeInstanceOf(globalThis.Request)
    expect(opened.getRequest()).toBe(request)
    expect([request.method, request.url]).toEqual(['POST', `${url}/a?b=c`])
    expect(['x-mine', 'COOKIE', 'x-gone'].map((name) => request.headers.get(name))).toEqual([
      'a',
      'b=c',
      null,
    ])
    expect(new globalThis.Request(request).url).toBe(request.url)
  })

  test.each([
    ['GET /a?b HTTP/1.1', 'Host: a b', 'http://localhost/a?b'],
    ['GET /a HTTP/1.1', 'Host: user:secret@x', 'http://localhost/a'],
    ['GET /a HTTP/1.1', 'Host: x/y', 'http://localhost/a'],
    ['GET /a HTTP/1.1', 'Host: x:99999', 'http://localhost/a'],
    ['GET /a HTTP/1.1', 'Host: [::1]:80', 'http://[::1]/a'],
    ['GET // HTTP/1.1', 'Host: x', 'http://x//'],
    ['GET //y/z HTTP/1.1', 'Host: x', 'http://x//y/z'],
    ['GET http://user:secret@y/z?q HTTP/1.1', 'Host: x', 'http://x/z?q'],
    ['GET /\\a HTTP/1.1', 'Host: x', 'http://x//a'],
    ['GET /a HTTP/1.0', 'X: y', 'http://localhost/a'],
  ])('%s with %s has the URL %3$s', async (line, header, url) => {
    const { port, sessions } = await serveSessions()
    const client = await raw(port)
    client.send(`${line}\r\n${header}\r\n\r\n`)
    await eventually(() => sessions.length === 1)
    expect(requestOf(sessions).url).toBe(url)
  })

  test('has no headers that fetch does not know, and does not throw for them', async () => {
    const { port, sessions } = await serveSessions()
    const client = await raw(port)
    client.send(get('/', 'X-Odd: a\x01b\xff'.replace('\x01', '\t')))
    await eventually(() => sessions.length === 1)
    expect(requestOf(sessions).headers.get('x-odd')).toBe('a\tb\xff')
  })
})

test('getResponse is one Response with the status and the headers that were sent', async () => {
  const { session: opened, client } = await session({
    headers: { 'X-Id': '7', 'Set-Cookie': ['a=1', 'b=2'] },
  })
  const response = opened.getResponse() as globalThis.Response
  expect(response).toBeInstanceOf(globalThis.Response)
  expect(opened.getResponse()).toBe(response)
  expect([response.status, response.body, response.headers.get('x-id')]).toEqual([200, null, '7'])
  expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  expect(response.headers.get('Content-Type')).toBe(client.response.headers['content-type'])
})

describe('a session in use', () => {
  test('has state, is connected, and tells when it is not', async () => {
    const { session: opened, client } = await session({ state: { name: 'x' } })
    expect([opened.state, opened.isConnected, opened.lastId]).toEqual([{ name: 'x' }, true, ''])
    client.close()
    await once(opened, 'disconnected')
    expect(opened.isConnected).toBe(false)
  })

  test('push returns the session, sets lastId and emits push, also when taken off the session', async () => {
    const { session: opened, client } = await session()
    const pushed: unknown[] = []
    opened.on('push', (...args: unknown[]) => pushed.push(args))
    const { push } = opened
    expect(push('a')).toBe(opened)
    push('b', 'n', '7')
    expect(opened.lastId).toBe('7')
    expect(pushed).toEqual([
      ['a', 'message', ''],
      ['b', 'n', '7'],
    ])
    await client.until(() => client.text === 'data: "a"\n\nevent: n\nid: 7\ndata: "b"\n\n')
  })

  test('iterate and stream resolve when all is written', async () => {
    const { session: opened, client } = await session()
    await opened.iterate([1, 2], { eventName: 'n' })
    expect(await opened.stream(new Blob(['x']).stream() as never)).toBe(true)
    await client.until(() => client.events.length === 3)
    expect(client.events.map(({ event, data }) => [event, data])).toEqual([
      ['n', '1'],
      ['n', '2'],
      ['stream', '"x"'],
    ])
  })
})

test('a misspelt option of iterate and stream is refused', async () => {
  const { session: opened } = await session()
  await expect(opened.iterate([], { eventNam: 'n' } as never)).rejects.toThrow('did you mean eventName?')
  await expect(opened.stream(new Blob(['x']).stream() as never, { name: 'n' } as never)).rejects.toThrow(
    "session.stream has no option 'name'",
  )
})

describe('a broadcast of a Channel', () => {
  async function channelOf(options: Partial<OpenSessionOptions>[]) {
    const opened = await Promise.all(options.map((each) => session(each)))
    const channel = createChannel()
    for (const { session: each } of opened) channel.register(each)
    return {
      channel,
      clients: opened.map(({ client }) => client),
      sessions: opened.map((each) => each.session),
    }
  }

  test('reaches every session, its filter and its id included, and deregistered ones no more', async () => {
    const { channel, clients, sessions } = await channelOf([{}, {}, {}])
    channel.deregister(sessions[2] as Session)
    channel.broadcast('x', 'n', { eventId: '7', filter: (each) => each !== sessions[1] })
    channel.broadcast('y', 'n', { eventId: '8' })
    await clients[0]?.until(
      ({ text }) => text === 'event: n\nid: 7\ndata: "x"\n\nevent: n\nid: 8\ndata: "y"\n\n',
    )
    await clients[1]?.until(({ text }) => text === 'event: n\nid: 8\ndata: "y"\n\n')
    expect([channel.sessionCount, clients[2]?.text]).toEqual([2, ''])
  })

  test('reaches the sessions after one whose onWithhold or push listener throws, which is warned of once', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const throws = () => {
      throw new Error('log is full')
    }
    const rejects = async () => throws()
    const { channel, clients, sessions } = await channelOf([
      { events: defineEvents({}), onWithhold: throws },
      { events: defineEvents({}), onWithhold: rejects as never },
      {},
      {},
    ])
    sessions[2]?.on('push', throws)
    channel.broadcast('x', 'n').broadcast('y', 'n')
    for (const client of clients.slice(2)) await client.until(() => client.events.length === 2)
    expect(warn.mock.calls.map(([text]) => text)).toEqual([
      expect.stringMatching(/onWithhold.*log is full/),
      expect.stringMatching(/'push'.*log is full/),
      expect.stringMatching(/onWithhold.*log is full/),
    ])
    warn.mockRestore()
  })

  test('shows each session what its own whitelist keeps, and asks a schema once for those that share one', async () => {
    const validate = jest.fn((value: unknown) => ({ value }))
    const schema = { '~standard': { version: 1, vendor: 'test', validate } } as const
    const shared = defineEvents({ n: schema })
    const { channel, clients } = await channelOf([
      { events: shared },
      { events: defineEvents({ n: ['a'] }) },
      { events: shared },
      { events: defineEvents({ n: true }) },
      { events: defineEvents({}) },
      { events: shared },
    ])
    const data = { a: 1, secret: 2 }
    channel.broadcast(data, 'n', { eventId: '1' })
    expect(validate).toHaveBeenCalledTimes(1)
    await Promise.resolve()
    data.a = 5
    await clients[0]?.until(({ events: arrived }) => arrived.length === 1)
    channel.broadcast(data, 'n', { eventId: '1' })
    await Promise.all(
      clients
        .filter((_, i) => i !== 4)
        .map((client) => client.until(({ events: arrived }) => arrived.length === 2)),
    )
    const all = ['{"a":1,"secret":2}', '{"a":5,"secret":2}']
    expect(clients.map((client) => client.events.map((event) => event.data))).toEqual([
      all,
      ['{"a":1}', '{"a":5}'],
      all,
      all,
      [],
      all,
    ])
  })

  test('with an async schema is withheld as unchecked', async () => {
    const onWithhold = jest.fn()
    const { channel, clients } = await channelOf([{ onWithhold }, {}])
    channel.broadcast({}, 'later').broadcast('x', 'n')
    await clients[1]?.until((client) => client.events.length === 1)
    expect(onWithhold.mock.calls).toEqual([[expect.objectContaining({ event: 'later' }), 'unchecked']])
  })
})
