import type { ServerResponse } from 'node:http'
import { Channel, EventBuffer, Session } from 'better-sse'
import compression from 'compression'
import express, { type RequestHandler } from 'express'
import {
  defineEvents,
  type OpenSessionOptions,
  openSession,
  problemJson,
  streamEvents,
} from 'express-sse-guard'
import supertest from 'supertest'
import { z } from 'zod'
import { get, open, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'
import { never } from './support/sources.js'

const events = defineEvents({
  message: ['text'],
  iteration: true,
  stream: true,
  checked: z.object({ a: z.number() }),
  later: z.object({ a: z.number() }).refine(async () => true),
})

type Sessions = Session<{ name?: string }>[]

/** Takes what is thrown in next ticks, where nobody catches it: jest would fail the test. */
function takeUncaught(): string[] {
  const messages: string[] = []
  const { nextTick } = process
  jest.spyOn(process, 'nextTick').mockImplementation((run, ...args) =>
    nextTick(() => {
      try {
        run(...args)
      } catch (error) {
        messages.push((error as Error).message)
      }
    }),
  )
  return messages
}

afterEach(() => jest.restoreAllMocks())

/** An app that opens a session for every request to / and keeps it open. */
function createApp(
  options: Partial<OpenSessionOptions<{ name?: string }>> = {},
  ...before: RequestHandler[]
) {
  const app = express()
  const sessions: Sessions = []
  app.all('/{*path}', ...before, async (req, res) => {
    const session = await openSession(req, res, { events, ...options })
    sessions.push(session)
    await streamEvents(session, never)
  })
  app.use(problemJson())
  return { app, sessions }
}

const plainHead = (headers: object) => ({ ...headers, date: '', 'keep-alive': '' })

describe('the head', () => {
  test('is on the wire when openSession resolves, with retry behind it', async () => {
    const { url } = await serve(createApp().app)
    const client = await open(url)
    expect(client.status).toBe(200)
    expect(client.response.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': expect.stringMatching(/no-store.*no-transform/),
      'x-accel-buffering': 'no',
    })
    await client.until(() => client.text === 'retry: 2000\n')
  })

  test.each([1, 2 ** 31 - 1])(
    'may have a retry of %d, and keep-alive and stall timeout as long',
    async (ms) => {
      const { url } = await serve(createApp({ retry: ms, keepAlive: ms, stallTimeoutMs: ms }).app)
      const client = await open(url)
      await client.until(() => client.text.startsWith(`retry: ${ms}\n`))
    },
  )

  test('comes alone if there is no retry', async () => {
    const { url } = await serve(createApp({ retry: null }).app)
    expect((await open(url)).status).toBe(200)
  })

  test.each(['HEAD', 'GET'])('to a %s is the same', async (method) => {
    const { app } = createApp({ headers: { 'X-Mine': '1' } }, (_req, res, next) => {
      res.cookie('a', '1')
      next()
    })
    const { url } = await serve(app)
    const reference = await open(url)
    const client = await open(url, { method })
    expect(plainHead(client.response.headers)).toEqual(plainHead(reference.response.headers))
    if (method === 'HEAD') await client.over
  })

  test('is ours whatever earlier middleware set, but for its cookies and other headers', async () => {
    const { app } = createApp(
      { headers: { 'Set-Cookie': 'c=3', 'X-Other': undefined } },
      (_req, res, next) => {
        res.status(418)
        res.statusMessage = 'Fine'
        res.set({
          'Cache-Control': 'public, max-age=60',
          'Content-Type': 'text/html',
          'Content-Length': '5',
          'Content-Encoding': 'gzip',
          'Content-Range': 'bytes 0-4/5',
          'Last-Modified': 'Thu, 01 Jan 1970 00:00:00 GMT',
          ETag: '"x"',
          'X-Other': '1',
          Vary: 'Origin',
        })
        res.append('Set-Cookie', 'a=1')
        res.append('Set-Cookie', 'b=2')
        next()
      },
    )
    const { url } = await serve(app)
    const { response } = await open(url)
    expect([response.statusCode, response.statusMessage]).toEqual([200, 'OK'])
    expect(response.headers['set-cookie']).toEqual(['a=1', 'b=2', 'c=3'])
    expect(response.headers).toMatchObject({ 'content-type': 'text/event-stream', vary: 'Origin' })
    const gone = ['content-length', 'content-encoding', 'content-range', 'last-modified', 'etag', 'x-other']
    for (const name of gone) expect(response.headers).not.toHaveProperty(name)
    expect(response.headers['cache-control']).not.toContain('public')
  })

  test.each([
    ['private', 'private, no-transform'],
    [undefined, 'no-store, no-transform'],
    ['private="no-transform"', 'private="no-transform", no-transform'],
    ['no-cache, NO-TRANSFORM', 'no-cache, NO-TRANSFORM'],
  ])('always says no-transform, also if Cache-Control is to be %p', async (value, sent) => {
    const { url } = await serve(createApp({ headers: { 'Cache-Control': value } }).app)
    expect((await open(url)).response.headers['cache-control']).toBe(sent)
  })

  test('is chunked, also if earlier middleware said so itself', async () => {
    const { app } = createApp({}, (_req, res, next) => {
      res.set('Transfer-Encoding', 'chunked')
      next()
    })
    const { url } = await serve(app)
    const client = await open(url)
    expect(client.response.headers['transfer-encoding']).toBe('chunked')
    await client.until(() => client.text.includes('retry'))
  })

  test('keeps compression from holding events back', async () => {
    const { app } = createApp({}, compression({ threshold: 0 }), (_req, res, next) => {
      res.set('Cache-Control', 'public')
      next()
    })
    const { url } = await serve(app)
    const client = await open(url, { headers: { 'Accept-Encoding': 'gzip' } })
    await client.until(() => client.text.includes('retry: 2000'))
  })

  test('leaves closing the connection to the client that asked for it', async () => {
    const app = express()
    app.get('/', async (req, res) => {
      await streamEvents(await openSession(req, res, { events }), [])
    })
    const { port } = await serve(app)
    const client = await raw(port)
    client.send(get('/', 'Connection: close'))
    await client.closed
    expect(client.text).toContain('Connection: close')
  })

  test.each([{}, { 'Transfer-Encoding': 'chunked' }, { Trailer: 'X-Sum' }])(
    'suits an HTTP/1.0 client, which knows no chunks (%p)',
    async (before) => {
      const app = express()
      app.get('/', async (req, res) => {
        res.set(before)
        await streamEvents(await openSession(req, res, { events }), [
          { event: 'message', data: { text: 'a' } },
        ])
      })
      const { port } = await serve(app)
      const client = await raw(port)
      client.send('GET / HTTP/1.0\r\n\r\n')
      await client.closed
      expect(client.text).toMatch(/\r\n\r\nretry: 2000\ndata: {"text":"a"}\n\n$/)
      expect(client.text).not.toMatch(/transfer-encoding/i)
    },
  )
})

describe('a request', () => {
  test('may be a POST whose body was read', async () => {
    const { app, sessions } = createApp({}, express.json())
    const { url } = await serve(app)
    const client = await open(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{"question":"why"}',
    })
    await eventually(() => sessions.length === 1)
    sessions[0]?.push({ text: 'a' })
    await client.until(() => client.events.length === 1)
    // Readers of POST streams are often written by hand, and lose an event behind another line.
    expect(client.text).toBe('data: {"text":"a"}\n\n')
    client.close()
    await eventually(() => sessions[0]?.isConnected === false)
  })

  test.each(['DELETE', 'PUT', 'PATCH', 'OPTIONS'])('with %s is answered 405 with Allow', async (method) => {
    const { url } = await serve(createApp().app)
    const client = await open(url, { method })
    expect([client.status, client.response.headers.allow]).toEqual([405, 'GET, HEAD, POST'])
    await client.until(() => client.text.includes('ERR_STREAM_METHOD'))
  })

  test.each([
    ['a malformed Host', 'GET / HTTP/1.1\r\nHost: :::%%%@[\r\n\r\n', 200],
    ['the target //', 'GET // HTTP/1.1\r\nHost: a\r\n\r\n', 200],
    [
      'an absolute target with credentials',
      'GET http://user:pass@host:99999/ HTTP/1.1\r\nHost: a\r\n\r\n',
      200,
    ],
    ['a target of percent signs', 'GET /?%%%&lastEventId=%00 HTTP/1.1\r\nHost: a\r\n\r\n', 200],
    ['Latin-1 in a header', 'GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: \xff\xfe\r\n\r\n', 200],
    ['two of everything', 'GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1\r\nLast-Event-ID: 2\r\n\r\n', 200],
    ['TRACE', 'TRACE / HTTP/1.1\r\nHost: a\r\n\r\n', 405],
    ['an unknown Expect', 'GET / HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\n\r\n', 417],
  ])('with %s makes nothing throw', async (_, bytes, status) => {
    const { port } = await serve(createApp().app)
    const client = await raw(port)
    client.send(bytes)
    await eventually(() => client.text.startsWith(`HTTP/1.1 ${status} `))
  })

  test.each([
    ['GET', 'Content-Length: 1000000', ''],
    ['POST', 'Content-Length: 1000000', ''],
    ['POST', 'Transfer-Encoding: chunked', 'F4240\r\n'],
  ])('whose body nobody reads (%s, %s) is still seen to leave', async (method, header, size) => {
    const { app, sessions } = createApp({ keepAlive: null, retry: 1 })
    const { port } = await serve(app)
    const client = await raw(port)
    client.send(`${method} / HTTP/1.1\r\nHost: a\r\n${header}\r\n\r\n${size}${'x'.repeat(200_000)}`)
    await eventually(() => client.text.includes('retry'))
    client.destroy()
    await eventually(() => sessions[0]?.isConnected === false)
  })

  test('without a body is not read, so that its own close still tells that the client has left', async () => {
    const app = express()
    let isClosed = false
    app.get('/', async (req, res) => {
      req.on('close', () => {
        isClosed = true
      })
      await streamEvents(await openSession(req, res, { events }), never)
    })
    const { url } = await serve(app)
    const client = await open(url)
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(isClosed).toBe(false)
    client.close()
    await eventually(() => isClosed)
  })

  test('whose body is being read by somebody who has paused it keeps the rest of it', async () => {
    const app = express()
    let body = ''
    app.post('/', async (req, res) => {
      req.on('data', (chunk) => {
        body += chunk
      })
      req.pause()
      const session = await openSession(req, res, { events })
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
      const before = body
      req.resume()
      await eventually(() => req.readableEnded)
      await streamEvents(session, [{ event: 'iteration', data: [before, body] }])
    })
    const { url } = await serve(app)
    const client = await open(url, { method: 'POST', body: 'question' })
    await client.over
    expect(client.events.map(({ data }) => data)).toEqual(['["","question"]'])
  })

  test('tells its Last-Event-ID by header only, as UTF-8, and only if trusted', async () => {
    const trusting = createApp()
    const { port } = await serve(trusting.app)
    const client = await raw(port)
    const id = Buffer.from('é 日').toString('latin1')
    client.send(get('/?lastEventId=1&evs_last_event_id=2', `Last-Event-ID: ${id}`))
    await eventually(() => trusting.sessions.length === 1)
    ;(await raw(port)).send(get('/?lastEventId=1&evs_last_event_id=2&padding=1&evs_preamble=1'))
    await eventually(() => trusting.sessions.length === 2)
    // No UTF-8, which stays as it is, and a byte order mark, which is part of the id.
    for (const bytes of ['\xff\xfe', '\xef\xbb\xbf7']) {
      ;(await raw(port)).send(get('/', `Last-Event-ID: ${bytes}`))
      const before = trusting.sessions.length
      await eventually(() => trusting.sessions.length > before)
    }
    expect(trusting.sessions.map((session) => session.lastId)).toEqual(['é 日', '', 'ÿþ', '\ufeff7'])

    const wary = createApp({ trustClientEventId: false, state: { name: 'x' } })
    await open((await serve(wary.app)).url, { headers: { 'Last-Event-ID': '7' } })
    expect([wary.sessions[0]?.lastId, wary.sessions[0]?.state]).toEqual(['', { name: 'x' }])
  })

  test('is to be had from its session: method, target and headers, as the client sent them', async () => {
    const { app, sessions } = createApp()
    const { url } = await serve(app)
    await open(`${url}/a?b=c`, { method: 'POST', headers: { 'X-Mine': Buffer.from('é').toString('latin1') } })
    await eventually(() => sessions.length === 1)
    const request = sessions[0]?.getRequest()
    expect([request?.method, request?.url]).toEqual(['POST', `${url}/a?b=c`])
    expect(['X-Mine', 'x-mine', 'X-Gone'].map((name) => request?.headers.get(name))).toEqual([
      'Ã©',
      'Ã©',
      null,
    ])
  })

  test('that is a HEAD gets no source and a closed session', async () => {
    const app = express()
    let started = false
    const results: unknown[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      results.push(session.isConnected)
      results.push(
        await streamEvents(session, () => {
          started = true
          return never
        }),
      )
    })
    await supertest(app).head('/')
    expect([started, results]).toEqual([false, [false, { sent: 0, withheld: 0, endedBy: 'client' }]])
  })

  test.each(['GET', 'POST'])(
    'whose client left during an await (%s) gets a session that is closed',
    async (method) => {
      const app = express()
      const results: unknown[] = []
      let started = false
      app.all('/', express.json(), async (req, res) => {
        await new Promise((resolve) => res.on('close', resolve))
        const session = await openSession(req, res, { events })
        session.push({ text: 'a' })
        results.push(session.isConnected)
        results.push(
          await streamEvents(session, () => {
            started = true
            return never
          }),
        )
      })
      const { port } = await serve(app)
      const client = await raw(port)
      client.send(
        method === 'GET'
          ? get('/')
          : 'POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
      )
      await eventually(() => client.socket.bytesWritten > 0)
      client.socket.end()
      await eventually(() => results.length === 2)
      expect([started, results]).toEqual([false, [false, { sent: 0, withheld: 0, endedBy: 'client' }]])
    },
  )

  test('whose client leaves while the session is made ready gets a session that is closed', async () => {
    const app = express()
    const results: unknown[] = []
    app.get('/', async (req, res) => {
      const opening = openSession(req, res, { events, keepAlive: 1 })
      req.socket.destroy()
      const session = await opening
      await eventually(() => !session.isConnected)
      results.push((await streamEvents(session, never)).sent)
    })
    const { url } = await serve(app)
    await open(url).catch(() => {})
    await eventually(() => results.length === 1)
  })
})

describe('misuse is an error before the first byte', () => {
  const fails = async (handler: RequestHandler) => {
    const app = express()
    let code: unknown
    app.get('/', handler)
    app.use(((error, _req, res, _next) => {
      code = error.code
      if (!res.headersSent) res.status(500)
      res.end(error.message)
    }) satisfies express.ErrorRequestHandler)
    const { text } = await supertest(app).get('/')
    return { code, text }
  }

  test.each([[undefined], [{}], [null], [['message']], [{ message: true }], ['message']])(
    'events: %p is no whitelist',
    async (notEvents) => {
      const { code, text } = await fails(async (req, res) => {
        await openSession(req, res, { events: notEvents as never })
      })
      expect([code, text]).toEqual(['ERR_STREAM_NO_WHITELIST', expect.stringContaining('defineEvents(')])
    },
  )

  test('no options', async () => {
    const { code } = await fails(async (req, res) => void (await openSession(req, res, undefined as never)))
    expect(code).toBe('ERR_STREAM_NO_WHITELIST')
  })

  test.each([
    ['retry', 0],
    ['retry', 2 ** 31],
    ['retry', 1.5],
    ['retry', '2000'],
    ['keepAlive', 0],
    ['keepAlive', Infinity],
    ['stallTimeoutMs', 0],
    ['stallTimeoutMs', null],
    ['stallTimeoutMs', 2 ** 31],
    ['maxPushedBytes', -1],
    ['onWithhold', 'log'],
    ['headers', { 'content-type': 'text/plain' }],
    ['headers', { 'Content-Length': '5' }],
    ['headers', { Trailer: 'X-Sum' }],
    ['headers', { 'X-Id': null }],
    ['headers', new Headers({ 'X-Id': '7' })],
    ['headers', new Map()],
    ['trustClientEventId', 'no'],
    ['headers', { 'CONTENT-ENCODING': 'gzip' }],
    ['headers', { 'Transfer-Encoding': 'chunked' }],
    ['headers', { Connection: 'upgrade' }],
    ['headers', { Connection: ['close'] }],
    ['headers', { 'Content-Type': 'text/event-stream; charset=latin1' }],
    ['headers', 'X-A: b'],
  ])('%s: %p', async (name, value) => {
    const { code, text } = await fails(async (req, res) => {
      await openSession(req, res, { events, [name]: value })
    })
    expect([code, text]).toEqual([
      'ERR_STREAM_BAD_OPTION',
      expect.stringMatching(`^openSession: ${name}.*; give `),
    ])
  })

  test.each([
    [{ keepalive: 5 }, "openSession has no option 'keepalive'; did you mean keepAlive?"],
    [{ statusCode: 201 }, "openSession has no option 'statusCode'. Its"],
    [{ serializer: String }, "openSession has no option 'serializer'; did you mean asText in defineEvents?"],
  ])('an option that does not exist: %p', async (option, message) => {
    const { code, text } = await fails(async (req, res) => {
      await openSession(req, res, { events, ...option })
    })
    expect([code, text]).toEqual(['ERR_STREAM_BAD_OPTION', expect.stringContaining(message)])
  })

  test.each([
    ['ERR_INVALID_CHAR', { 'X-A': 'a\r\nb' }],
    ['ERR_HTTP_INVALID_HEADER_VALUE', { 'X-A': ['a', undefined as never] }],
    ['ERR_INVALID_HTTP_TOKEN', { 'X A': 'a' }],
  ])('a header that cannot be sent (%s), and the response stays as it was', async (expected, headers) => {
    const { code } = await fails(async (req, res) => {
      try {
        await openSession(req, res, { events, headers })
      } finally {
        expect(res.getHeaderNames()).toEqual(['x-powered-by'])
      }
    })
    expect(code).toBe(expected)
    const { code: none } = await fails(async (req, res) => {
      await openSession(req, res, { events, headers: null as never })
    })
    expect(none).toBe('ERR_STREAM_BAD_OPTION')
  })

  test('a response whose headers were sent', async () => {
    const { code } = await fails(async (req, res) => {
      res.write('begun')
      await openSession(req, res, { events })
    })
    expect(code).toBe('ERR_STREAM_HEADERS_SENT')
  })

  test.each(['at the same time', 'one after the other'])('two sessions on one response, %s', async (when) => {
    const { code } = await fails(async (req, res) => {
      const first = openSession(req, res, { events })
      if (when === 'one after the other') await first
      await openSession(req, res, { events })
    })
    expect(code).toBe('ERR_STREAM_HEADERS_SENT')
  })

  test.each([[undefined], [null], [{}]])('streaming to %p instead of a session', async (session) => {
    await expect(streamEvents(session as never, [])).rejects.toMatchObject({
      code: 'ERR_STREAM_NO_WHITELIST',
    })
  })

  test('streaming to a session of better-sse itself', async () => {
    const { code } = await fails(async (req, res) => {
      const session = new Session(req, res)
      await new Promise<void>((resolve) => session.once('connected', resolve))
      await streamEvents(session, [])
    })
    expect(code).toBe('ERR_STREAM_NO_WHITELIST')
  })

  test('streaming to a session that was not awaited', async () => {
    const { code, text } = await fails((req, res) =>
      streamEvents(openSession(req, res, { events }) as never, []).then(),
    )
    expect([code, text]).toEqual(['ERR_STREAM_NO_WHITELIST', expect.stringContaining('await openSession(')])
  })
})

describe('every other way to write goes through the whitelist', () => {
  /** Opens one session, runs `act` on it, ends it, and returns what the client received after `retry`. */
  async function wire(act: (session: Session) => unknown, options: Partial<OpenSessionOptions> = {}) {
    const app = express()
    let thrown: { code?: string } | undefined
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: null, ...options })
      try {
        await act(session)
      } catch (error) {
        thrown = error as object
      }
      await streamEvents(session, [])
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    return { text: client.text, events: client.events, code: thrown?.code }
  }
  const secret = { text: 'a', secret: 'TOPSECRET' }

  test('push', async () => {
    const withheld: unknown[] = []
    const { text } = await wire(
      (session) => {
        session
          .push(secret)
          .push(secret, 'admin')
          .push({ a: 'x' }, 'checked')
          .push({ text: 'b' }, 'message', '7')
        expect(session.lastId).toBe('7')
        session.push(secret, 'message', 'a\nevent: admin').push(secret, 'message\nevent: admin')
        expect(session.lastId).toBe('7')
      },
      { onWithhold: (event, why) => withheld.push([(event as { event: string }).event, why]) },
    )
    expect(text).toBe('data: {"text":"a"}\n\nid: 7\ndata: {"text":"b"}\n\n')
    expect(withheld).toEqual([
      ['admin', 'unlisted'],
      ['checked', 'invalid'],
      ['message', 'bad-id'],
      ['message\nevent: admin', 'unlisted'],
    ])
  })

  test("push emits 'push' for what was written, and an empty id resets session.lastId", async () => {
    const pushed: unknown[] = []
    const { text } = await wire((session) => {
      session.on('push', (...args: unknown[]) => pushed.push(args))
      session.push(secret, 'message', '7').push(secret, 'admin').push(secret, 'message', '')
      expect(session.lastId).toBe('')
      session.push(secret)
    })
    expect(pushed).toEqual([
      [secret, 'message', '7'],
      [secret, 'message', ''],
      [secret, 'message', ''],
    ])
    expect(text.match(/^id: .*$/gm)).toEqual(['id: 7', 'id: '])
  })

  test('push to a session that is over does nothing, whatever is pushed', async () => {
    const app = express()
    const told = jest.fn()
    let lastId: string | undefined
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, onWithhold: told })
      res.end()
      session.on('push', told)
      session.push(secret, 'admin').push({ a: 1 }, 'later').push(secret, 'message', '7')
      lastId = session.lastId
    })
    const { url } = await serve(app)
    await (await open(url)).over
    expect([told.mock.calls, lastId]).toEqual([[], ''])
  })

  test('push of an event whose schema is async, which push cannot wait for, is withheld as unchecked', async () => {
    const onWithhold = jest.fn()
    const { code, text } = await wire((session) => session.push({ a: 1 }, 'later'), { onWithhold })
    expect([code, text]).toEqual([undefined, ''])
    expect(onWithhold.mock.calls).toEqual([[{ event: 'later', data: { a: 1 }, id: undefined }, 'unchecked']])
  })

  test('iterate', async () => {
    const onWithhold = jest.fn()
    const { text } = await wire(
      async (session) => {
        await session.iterate([secret], { eventName: 'message' })
        await session.iterate([secret], { eventName: 'admin' })
        await session.iterate([1n, 'x'])
      },
      { onWithhold },
    )
    expect(onWithhold.mock.calls).toEqual([
      [{ event: 'admin', data: secret }, 'unlisted'],
      [{ event: 'iteration', data: 1n }, 'unserialisable'],
    ])
    expect(text).toBe('data: {"text":"a"}\n\nevent: iteration\ndata: "x"\n\n')
  })

  test('stream', async () => {
    const { Readable } = await import('node:stream')
    const onWithhold = jest.fn()
    const { text } = await wire(
      async (session) => {
        expect(await session.stream(Readable.from([Buffer.from('é')]))).toBe(true)
        await session.stream(Readable.from(['x']), { eventName: 'admin' })
        await session.stream(new Blob(['web']).stream() as never)
      },
      { onWithhold },
    )
    expect(onWithhold.mock.calls).toEqual([[{ event: 'admin', data: 'x' }, 'unlisted']])
    expect(text).toBe('event: stream\ndata: "é"\n\nevent: stream\ndata: "web"\n\n')
  })

  test('a better-sse Channel', async () => {
    const { text } = await wire((session) => {
      const channel = new Channel<object, never>().register(session as never)
      channel.broadcast(secret, 'admin').broadcast(secret, 'message', { eventId: '7' })
    })
    expect(text).toBe('id: 7\ndata: {"text":"a"}\n\n')
  })

  test.each<[string, Parameters<Session['batch']>[0]]>([
    ['a raw EventBuffer', new EventBuffer().push(secret, 'message')],
    ['a callback', (buffer) => void buffer.push(secret, 'message')],
    ['a multi-line comment', (buffer) => void buffer.comment('a\nevent: admin\ndata: TOPSECRET\n')],
    ['data alone', (buffer) => void buffer.data(secret).dispatch()],
    ['an id alone', (buffer) => void buffer.id('7')],
  ])('batch with %s throws, and writes nothing', async (_, batch) => {
    const { text, code } = await wire((session) => session.batch(batch))
    expect([text, code]).toEqual(['', 'ERR_STREAM_UNCHECKED'])
  })

  test('batch with comments and retry writes them', async () => {
    const { text } = await wire((session) =>
      session.batch((buffer) => void buffer.comment('hi').retry(5000).dispatch()),
    )
    expect(text).toBe(':hi\nretry:5000\n')
  })

  test.each([
    ['a CR, which ends a line as LF does', ':a\revent: admin\n\n'],
    ['a line that does not end', ':a'],
    ['a retry that is no number', 'retry: 5s\n\n'],
    ['a retry with a field behind it', 'retry: 5event: admin\n\n'],
    ['a colon elsewhere than at the start', 'event: admin\n\n'],
    ['a text that is none', { includes: () => false, toString: (): string => '', split: () => [''] }],
  ])('an EventBuffer whose content has %s is refused', async (_, content) => {
    const buffer = Object.assign(new EventBuffer(), { read: () => content as string })
    const { text, code } = await wire((session) => session.batch(buffer))
    expect([text, code]).toEqual(['', 'ERR_STREAM_UNCHECKED'])
  })

  test('what is pushed in one tick leaves in one write', async () => {
    const app = express()
    let writes: unknown[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const write = jest.spyOn(res, 'write')
      for (let i = 0; i < 100; i++) session.push(i, 'iteration')
      await new Promise<void>((resolve) => process.nextTick(resolve))
      writes = write.mock.calls
      await streamEvents(session, [])
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect([client.events.length, writes.length]).toEqual([100, 1])
  })
})

describe('before the end', () => {
  test('what was pushed in the tick of res.end() arrives, and nothing after it', async () => {
    const app = express()
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: null })
      session.push(1, 'iteration')
      res.end()
      session.push(2, 'iteration')
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text]).toEqual([true, 'event: iteration\ndata: 1\n\n'])
  })

  test('middleware that holds the end back (a session store) changes nothing of that', async () => {
    const app = express()
    const endings: string[] = []
    app.use((_req, res, next) => {
      const end = res.end.bind(res)
      res.end = ((...args: []) => {
        setImmediate(() => end(...args))
        return res
      }) as typeof res.end
      next()
    })
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: null, keepAlive: 1 })
      const ending = streamEvents(session, [{ event: 'iteration', data: 1 }], { end: 'final' })
      const again = await streamEvents(session, [{ event: 'iteration', data: 2 }])
      endings.push(again.endedBy, (await ending).endedBy)
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(client.text).toBe('event: iteration\ndata: 1\n\nretry: 2147483647\n')
    await eventually(() => endings.length === 2)
    expect(endings).toEqual(['aborted', 'source'])
  })

  test('also if middleware that came later holds the end back', async () => {
    const app = express()
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: null })
      const end = res.end.bind(res)
      res.end = ((...args: []) => {
        setImmediate(() => end(...args))
        return res
      }) as typeof res.end
      const ending = streamEvents(session, [{ event: 'iteration', data: 1 }])
      session.push(2, 'iteration')
      await ending
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(client.text).toBe('event: iteration\ndata: 1\n\n')
  })

  test.each([1, 2])(
    'also if it holds back an end of the application, called %p times, of which it fails the second',
    async (times) => {
      const app = express()
      let finish: () => void = () => {}
      app.use((_req, res, next) => {
        const end = res.end.bind(res)
        let ends = 0
        res.end = (() => {
          ends += 1
          if (ends > 1) throw new Error('ended twice')
          finish = end
          return res
        }) as typeof res.end
        next()
      })
      const pushed = jest.fn()
      app.get('/', async (req, res) => {
        const session = await openSession(req, res, { events, retry: null, keepAlive: null })
        session.push(1, 'iteration')
        res.end()
        if (times === 2) expect(() => res.end()).toThrow('ended twice')
        session.on('push', pushed)
        session.push(2, 'iteration')
        setImmediate(finish)
      })
      const { url } = await serve(app)
      const client = await open(url)
      await client.over
      expect([client.text, pushed.mock.calls]).toEqual(['event: iteration\ndata: 1\n\n', []])
    },
  )

  test('an end that fails because of its argument is none: the stream goes on', async () => {
    const app = express()
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: null })
      expect(() => res.end(123)).toThrow('must be')
      session.push(1, 'iteration')
      res.end()
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(client.text).toBe('event: iteration\ndata: 1\n\n')
  })

  test('middleware whose write returns nothing does not stop the stream', async () => {
    const app = express()
    app.use((_req, res, next) => {
      const write = res.write.bind(res)
      res.write = ((...args: [string]) => {
        write(...args)
      }) as never
      next()
    })
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const many = Array.from({ length: 300 }, () => ({ event: 'iteration', data: 'x'.repeat(1000) }))
      await streamEvents(session, many)
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(client.events).toHaveLength(300)
  })
})

describe('after the end', () => {
  test('by an end that was captured before the session, nothing throws and no source starts', async () => {
    const app = express()
    const done: unknown[] = []
    const source = jest.fn(() => never)
    app.get('/', async (req, res) => {
      const { end } = res
      const session = await openSession(req, res, { events, keepAlive: 1 })
      session.push({ text: 'before' })
      ;(end as () => void).call(res)
      session.push({ text: 'a' })
      done.push((await streamEvents(session, source)).endedBy)
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    await eventually(() => done.length === 1)
    expect([done, client.events, source.mock.calls]).toEqual([['aborted'], [], []])
  })

  test.each(['end', 'destroy'] as const)(
    'by res.%s(), writing does nothing, nothing throws and no source starts',
    async (way) => {
      const app = express()
      const done: unknown[] = []
      const source = jest.fn(() => never)
      app.get('/', async (req, res) => {
        const session = await openSession(req, res, { events, keepAlive: 1 })
        res[way]()
        session.push({ text: 'a' })
        await session.batch((buffer) => void buffer.comment().dispatch())
        await session.iterate(never as never)
        done.push(await streamEvents(session, source))
        await eventually(() => !session.isConnected)
        session.push({ text: 'a' })
        done.push('over')
      })
      const { url } = await serve(app)
      await (await open(url).catch(() => undefined))?.over
      await eventually(() => done.length === 2)
      expect(done[0]).toEqual({ sent: 0, withheld: 0, endedBy: 'aborted' })
      expect(source).not.toHaveBeenCalled()
    },
  )

  test('streamEvents with an option that cannot work does not end it again', async () => {
    const app = express()
    let ends = 0
    app.use((_req, res, next) => {
      const end = res.end.bind(res)
      res.end = ((...args: []) => {
        ends += 1
        return end(...args)
      }) as typeof res.end
      next()
    })
    const codes: string[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      res.end()
      await streamEvents(session, [], { end: 'never' as never }).catch((error) => codes.push(error.code))
    })
    const { url } = await serve(app)
    await (await open(url)).over
    await eventually(() => codes.length === 1)
    expect([codes, ends]).toEqual([['ERR_STREAM_BAD_OPTION'], 1])
  })

  test("a listener for 'disconnected' that throws is heard, and does not keep a stream from settling", async () => {
    const app = express()
    const endings: string[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      session.on('disconnected', () => {
        throw new Error('from the application')
      })
      endings.push((await streamEvents(session, never)).endedBy)
    })
    const { url } = await serve(app)
    const client = await open(url)
    const uncaught = takeUncaught()
    client.close()
    await eventually(() => uncaught.length === 1 && endings.length === 1)
    expect([endings, uncaught]).toEqual([['client'], ['from the application']])
  })

  test('in the very tick of openSession nothing throws', async () => {
    const app = express()
    const done: unknown[] = []
    app.get('/', async (req, res) => {
      const opening = openSession(req, res, { events })
      res.end()
      const session = await opening
      done.push((await streamEvents(session, never)).endedBy)
    })
    const { url } = await serve(app)
    await (await open(url)).over
    await eventually(() => done.length === 1)
    expect(done).toEqual(['aborted'])
  })

  test.each(['before', 'in the tick of'])('by res.destroy() %s openSession, it was aborted', async (when) => {
    const app = express()
    const results: unknown[] = []
    app.get('/', async (req, res) => {
      if (when === 'before') res.destroy()
      const opening = openSession(req, res, { events })
      res.destroy()
      results.push(await streamEvents(await opening, never))
    })
    const { port } = await serve(app)
    await (await raw(port)).send(get('/')).closed
    await eventually(() => results.length === 1)
    expect(results).toEqual([{ sent: 0, withheld: 0, endedBy: 'aborted' }])
  })

  test('a push neither reports nor tells anything', async () => {
    const { app, sessions } = createApp({ onWithhold: (event) => told.push(event) })
    const told: unknown[] = []
    const { url } = await serve(app)
    const client = await open(url)
    await eventually(() => sessions.length === 1)
    client.close()
    await eventually(() => sessions[0]?.isConnected === false)
    sessions[0]?.on('push', (...args) => told.push(args))
    sessions[0]?.push({ text: 'a' }, 'message', '7').push(1, 'secret')
    expect([told, sessions[0]?.lastId]).toEqual([[], ''])
  })

  test('another res.end() starts no timer', async () => {
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    const app = express()
    const counts: number[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      await streamEvents(session, [])
      counts.push(timers())
      res.end()
      counts.push(timers())
    })
    const { url } = await serve(app)
    await (await open(url)).over
    await eventually(() => counts.length === 2)
    expect(counts[1]).toBe(counts[0])
  })

  test('keep-alive comments stop', async () => {
    const timers = jest.spyOn(globalThis, 'setInterval')
    const { app, sessions } = createApp({ keepAlive: 1 })
    const { url } = await serve(app)
    const client = await open(url)
    await client.until(() => client.text.endsWith(':\n:\n'))
    client.close()
    await eventually(() => sessions[0]?.isConnected === false)
    const timer = timers.mock.results[timers.mock.calls.findIndex(([, ms]) => ms === 1)]?.value
    expect(timer._destroyed).toBe(true)
  })
})

describe('maxPushedBytes', () => {
  const push = (session: Session | undefined, times: number) => {
    for (let i = 0; i < times; i++) session?.push('x'.repeat(1000), 'iteration')
  }

  test('may be 0: what is pushed to a client that has read everything arrives', async () => {
    const { app, sessions } = createApp({ maxPushedBytes: 0, retry: null, keepAlive: null })
    const { url } = await serve(app)
    const client = await open(url)
    await eventually(() => sessions.length === 1)
    for (let i = 1; i <= 3; i++) {
      push(sessions[0] as Session, 1)
      await client.until(() => client.events.length === i)
    }
  })

  test('does not count what is pushed in one tick against itself', async () => {
    const { app, sessions } = createApp({ maxPushedBytes: 10_000, keepAlive: null })
    const { url } = await serve(app)
    const client = await open(url)
    await eventually(() => sessions.length === 1)
    push(sessions[0] as Session, 100)
    await client.until(() => client.events.length === 100)
  })
})

describe('a client that is more than maxPushedBytes behind', () => {
  const MB = 1024 * 1024

  /** A client that does not read, with its session and response. */
  async function stalledClient(maxPushedBytes = 100_000) {
    const responses: ServerResponse[] = []
    const { app, sessions } = createApp({ maxPushedBytes, keepAlive: null }, (_req, res, next) => {
      responses.push(res)
      next()
    })
    const { port } = await serve(app)
    const client = await raw(port)
    client.socket.pause()
    client.send(get('/'))
    await eventually(() => sessions.length === 1)
    return { client, session: sessions[0] as Sessions[0], response: responses[0] as ServerResponse }
  }

  test('is cut by a push, which then is not reported as one, and no other client is', async () => {
    const { app, sessions } = createApp({ maxPushedBytes: 100_000, keepAlive: null })
    const { url } = await serve(app)
    const lazy = await open(url)
    lazy.response.pause()
    await eventually(() => sessions.length === 1)
    const keen = await open(url)
    await eventually(() => sessions.length === 2)
    const ids: unknown[] = []
    sessions[0]?.on('push', (_data, _name, id) => ids.push(id))
    const text = 'x'.repeat(64 * 1024)
    let pushed = 0
    while (sessions[0]?.isConnected && pushed < 1000) {
      for (const session of sessions) session.push({ text }, 'message', String(pushed))
      pushed += 1
      await keen.until(() => keen.events.length === pushed)
    }
    expect(pushed).toBeLessThan(1000)
    expect(sessions.map((session) => session.isConnected)).toEqual([false, true])
    expect([ids.length, sessions[0]?.lastId]).toEqual([pushed - 1, String(pushed - 2)])
  })

  test('is none whose one large event is on its way, until more piles up than that', async () => {
    const { client, session, response } = await stalledClient()
    const channel = new Channel<object, never>().register(session as never)
    streamEvents(session, [{ event: 'iteration', data: 'x'.repeat(12 * MB) }], { end: false })
    await eventually(() => response.writableLength > MB)
    channel.broadcast({ text: 'a' }, 'message')
    client.socket.resume()
    await eventually(() => client.text.includes('{"text":"a"}') || !session.isConnected)
    expect(session.isConnected).toBe(true)
    client.socket.pause()
    let behind = 0
    for (let i = 0; i < 50 && session.isConnected; i++) {
      channel.broadcast('x'.repeat(MB), 'iteration')
      await new Promise((resolve) => setImmediate(resolve))
      behind = Math.max(behind, response.writableLength)
    }
    expect([session.isConnected, behind < 3 * MB]).toEqual([false, true])
  })

  test('is one also after a large event has gone, however much it was', async () => {
    const { client, session, response } = await stalledClient(8 * MB)
    const push = async (bytes: number) => {
      session.push('x'.repeat(bytes), 'iteration')
      await new Promise((resolve) => setImmediate(resolve))
    }
    await push(32 * MB)
    // So that there is still something waiting when it has gone.
    for (let i = 0; i < 7; i++) await push(MB)
    client.socket.resume()
    await eventually(() => response.writableLength < 8 * MB)
    client.socket.pause()
    let behind = 0
    for (let i = 0; i < 40 && session.isConnected; i++) {
      await push(MB)
      behind = Math.max(behind, response.writableLength)
    }
    expect([session.isConnected, behind < 20 * MB]).toEqual([false, true])
  })

  test('is sent no more comments, but is not cut for them', async () => {
    const { session, response } = await stalledClient()
    for (let i = 0; i < 16; i++) {
      await session.batch((buffer) => void buffer.comment('x'.repeat(MB)))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect([session.isConnected, response.writableLength < 3 * MB]).toEqual([true, true])
  })
})
