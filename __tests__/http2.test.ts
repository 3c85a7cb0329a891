import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type Http2Server,
} from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { Session } from 'better-sse'
import {
  defineEvents,
  type OpenSessionOptions,
  openSession,
  problemJson,
  type StreamEventsOptions,
  type StreamResult,
  type StreamSource,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { eventually } from './support/eventually.js'
import { never } from './support/sources.js'

const events = defineEvents({ n: true })
const n = (data: unknown) => ({ event: 'n', data })

let server: Http2Server | undefined
let client: ClientHttp2Session | undefined

afterEach(async () => {
  jest.restoreAllMocks()
  client?.destroy()
  server?.close()
  if (server?.listening) await once(server, 'close')
})

/** A server without Express, which does not know HTTP/2, and a client with one connection to it. */
async function serve(
  source: StreamSource,
  sessionOptions: Partial<OpenSessionOptions> = {},
  options: StreamEventsOptions = {},
) {
  const limit = streamLimit({ keyGenerator: (req) => req.headers.user as string, limit: 2 })
  const results: (StreamResult | Error)[] = []
  const sessions: Session[] = []
  const warnings = jest.spyOn(process, 'emitWarning')
  const handle = (req: IncomingMessage, res: ServerResponse) =>
    limit(req, res, async (error) => {
      if (error) return problemJson()(error, req, res, () => res.end())
      const session = await openSession(req, res, { events, ...sessionOptions })
      sessions.push(session)
      results.push(await streamEvents(session, source, options).catch((thrown) => thrown))
    })
  server = createServer((req, res) => void handle(req as never, res as never))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  return { limit, results, sessions, warnings, client }
}

const closed = (stream: ClientHttp2Stream) => new Promise<void>((resolve) => stream.once('close', resolve))

interface Opened {
  stream: ClientHttp2Stream
  headers: Record<string, unknown>
  text: string
}

async function open(headers: Record<string, string> = {}): Promise<Opened> {
  const stream = (client as ClientHttp2Session).request({ ':path': '/', user: 'alice', ...headers })
  stream.setEncoding('utf8')
  stream.on('error', () => {})
  const opened: Opened = { stream, headers: {}, text: '' }
  stream.on('data', (text: string) => {
    opened.text += text
  })
  const [head] = await once(stream, 'response')
  opened.headers = head
  return opened
}

test('a stream over HTTP/2 has no header of the connection, and no warning is given', async () => {
  const { warnings, results } = await serve([n(1)], { headers: { Connection: 'keep-alive' } })
  const opened = await open()
  await closed(opened.stream)
  expect(opened.headers).toMatchObject({ ':status': 200, 'content-type': 'text/event-stream' })
  expect(Object.keys(opened.headers)).not.toEqual(
    expect.arrayContaining([expect.stringMatching(/^(connection|transfer-encoding|keep-alive)$/)]),
  )
  expect(opened.text).toBe('retry: 2000\nevent: n\ndata: 1\n\n')
  await eventually(() => results.length === 1)
  expect(results).toEqual([{ sent: 1, withheld: 0, endedBy: 'source' }])
  expect(warnings).not.toHaveBeenCalled()
})

test('the end of one stream leaves the other streams of its connection alone', async () => {
  const { limit, results, sessions } = await serve(never)
  const left = await open()
  const stays = await open()
  await eventually(() => sessions.length === 2)
  left.stream.close(constants.NGHTTP2_CANCEL)
  await eventually(() => results.length === 1)
  expect(results).toEqual([{ sent: 0, withheld: 0, endedBy: 'client' }])
  expect(limit.open).toBe(1)
  await eventually(() => sessions[0]?.isConnected === false)
  sessions[1]?.push(5, 'n')
  await eventually(() => stays.text.endsWith('data: 5\n\n'))
})

test('streams of one connection are counted one by one, and a refusal is an answer like any other', async () => {
  const { limit, warnings } = await serve(never)
  await open()
  await open()
  const refused = await open()
  expect(warnings).not.toHaveBeenCalled()
  expect(refused.headers).toMatchObject({ ':status': 429, 'content-type': 'application/problem+json' })
  expect(limit.open).toBe(2)
  client?.destroy()
  await eventually(() => limit.open === 0)
  expect(await limit.count('alice')).toBe(0)
})

test('a source is not read ahead of a client that does not read, and the client is cut as stalled', async () => {
  let pulled = 0
  const endless = function* () {
    for (;;) yield n('x'.repeat(1000) + pulled++)
  }
  const { limit, results } = await serve(endless, { stallTimeoutMs: 200 })
  const opened = await open()
  const other = await open({ user: 'bob' })
  opened.stream.pause()
  await eventually(() => results.length === 1)
  expect(results).toMatchObject([{ endedBy: 'stalled' }])
  expect(limit.open).toBe(1)
  const before = other.text.length
  await eventually(() => other.text.length > before)
})

test('a slow reader of one large event is not stalled while it makes progress', async () => {
  const large = 'x'.repeat(3_000_000)
  const { results } = await serve([n(large)], { stallTimeoutMs: 1000 })
  const opened = await open()
  // Flow control goes on in lumps of 64 KB. Each takes a good part of the timeout, and all together several times as long.
  const reading = setInterval(() => opened.stream.resume(), 30)
  opened.stream.on('data', () => opened.stream.pause())
  try {
    await eventually(() => opened.text.length > 600_000 || results.length > 0)
    expect(results).toEqual([])
    opened.stream.removeAllListeners('data').on('data', (text: string) => {
      opened.text += text
    })
    opened.stream.resume()
    await eventually(() => results.length === 1)
  } finally {
    clearInterval(reading)
  }
  expect(results).toEqual([{ sent: 1, withheld: 0, endedBy: 'source' }])
  await eventually(() => opened.text.endsWith('x"\n\n'))
})

test('breakOnError resets the stream after what was written has arrived', async () => {
  const { results } = await serve(
    function* () {
      yield n(1)
      throw new Error('secret')
    },
    {},
    { breakOnError: true, onError: () => n('failed') },
  )
  const opened = await open()
  await closed(opened.stream)
  expect(opened.text).toBe('retry: 2000\nevent: n\ndata: 1\n\nevent: n\ndata: "failed"\n\n')
  expect(opened.stream.rstCode).toBe(constants.NGHTTP2_INTERNAL_ERROR)
  await eventually(() => results.length === 1)
  expect(results).toEqual([new Error('secret')])
})

test('HEAD is answered with the head alone, and POST streams', async () => {
  const { results } = await serve([n(1)])
  const head = await open({ ':method': 'HEAD' })
  await closed(head.stream)
  expect([head.headers[':status'], head.text]).toEqual([200, ''])
  const post = await open({ ':method': 'POST' })
  await closed(post.stream)
  expect(post.text).toBe('event: n\ndata: 1\n\n')
  await eventually(() => results.length === 2)
})

test('getRequest has the headers without the pseudo-headers, and an absolute URL', async () => {
  const { sessions, client } = await serve(never)
  const opened = await open({ ':path': '/a?b=c', 'x-mine': '1' })
  await eventually(() => sessions.length === 1)
  const request = sessions[0]?.getRequest() as Request
  expect(request.url).toBe(`http://${client.socket.remoteAddress}:${client.socket.remotePort}/a?b=c`)
  expect([...request.headers.keys()]).toEqual(['user', 'x-mine'])
  opened.stream.close(constants.NGHTTP2_CANCEL)
  await once(request.signal, 'abort')
})

test('a stream that the client resets without an error while bytes are pending gives its slot back', async () => {
  const source = async function* () {
    for (;;) {
      yield n('x'.repeat(300_000))
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const { limit, results } = await serve(source)
  const opened = await open()
  await eventually(() => opened.text.length > 0)
  opened.stream.pause()
  // Node's default code of close().
  opened.stream.close(constants.NGHTTP2_NO_ERROR)
  await eventually(() => results.length === 1 && limit.open === 0)
  expect(results).toMatchObject([{ endedBy: 'client' }])
})

test('an unread body of unknown length is read, so that the client is seen to leave', async () => {
  const { limit, sessions } = await serve(never)
  const stream = (client as ClientHttp2Session).request({ ':method': 'POST', user: 'alice' })
  stream.on('error', () => {})
  stream.write('x'.repeat(300_000))
  await eventually(() => sessions.length === 1 && stream.writableLength === 0)
  stream.close(constants.NGHTTP2_NO_ERROR)
  await eventually(() => limit.open === 0)
})

test('a stream that has ended does not wait for the rest of an upload', async () => {
  const { limit, results } = await serve([n(1)])
  const stream = (client as ClientHttp2Session).request({
    ':method': 'POST',
    user: 'alice',
    'content-length': '100',
  })
  stream.on('error', () => {})
  stream.write('x')
  await eventually(() => results.length === 1 && limit.open === 0)
  expect(results).toEqual([{ sent: 1, withheld: 0, endedBy: 'source' }])
})

test('headers of the connection that the application gives are left out', async () => {
  await serve([n(1)], { headers: { 'Keep-Alive': 'timeout=5', Upgrade: 'h2c', 'X-Mine': '1' } })
  const opened = await open()
  await closed(opened.stream)
  expect(opened.headers).toMatchObject({ ':status': 200, 'x-mine': '1' })
})
