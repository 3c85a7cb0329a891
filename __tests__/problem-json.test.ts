import compression from 'compression'
import express, { type ErrorRequestHandler } from 'express'
import { rateLimit } from 'express-rate-limit'
import { problemJson, type StreamLimitOptions, streamLimit } from 'express-sse-guard'
import createError from 'http-errors'
import supertest from 'supertest'
import { get, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'

/** What an app with problemJson answers when its route fails with this error. */
function answerTo(
  error: unknown,
  prepare: (res: express.Response) => void = () => {},
  passed: (error: unknown) => void = () => {},
) {
  const app = express()
  app.use((_req, res, next) => {
    prepare(res)
    next(error)
  })
  app.use(problemJson())
  app.use(((error, _req, res, _next) => {
    passed(error)
    if (res.headersSent) res.end('the next handler')
    else res.status(599).send('the next handler')
  }) satisfies ErrorRequestHandler)
  return supertest(app).get('/')
}

test('an exposed http-error becomes a problem with its message as the detail', async () => {
  const { status, type, body, headers } = await answerTo(createError(404, 'No room 7'))
  expect([status, type, headers['cache-control']]).toEqual([404, 'application/problem+json', 'no-store'])
  expect(body).toEqual({ type: 'about:blank', title: 'Not Found', status: 404, detail: 'No room 7' })
})

test.each([
  ['ERR_STREAM_LIMIT', 429],
  ['ERR_STREAM_NO_KEY', 401],
  ['ERR_STREAM_CAPACITY', 503],
  ['ERR_STREAM_STORE', 503],
])('the refusal %s is rendered, with its code', async (code, status) => {
  const { body } = await answerTo(createError(status, 'Why', { code }))
  expect(body).toMatchObject({ status, detail: 'Why', code })
})

test.each([
  ['a plain error', new Error('secret')],
  ['an http-error that is not exposed', createError(500, 'secret')],
  ['a 503 of somebody else', createError(503, 'secret', { code: 'ERR_DATABASE' })],
  ['our code on another status', createError(500, 'secret', { code: 'ERR_STREAM_LIMIT' })],
  ['a status that is none', Object.assign(new Error('secret'), { status: 200, expose: true })],
  ['a status out of range', Object.assign(new Error('secret'), { status: 1e9, expose: true })],
  ['a status below 400', Object.assign(new Error('secret'), { status: 399, expose: true })],
  ['a status above 599', Object.assign(new Error('secret'), { status: 600, expose: true })],
  ['a status that is no integer', Object.assign(new Error('secret'), { status: 404.5, expose: true })],
  ['an expose that is not true', Object.assign(new Error('secret'), { status: 404, expose: 'no' })],
  ['a string', 'secret'],
])('%s is left to the next error handler', async (_, error) => {
  expect((await answerTo(error)).text).toBe('the next handler')
})

test.each([
  [400, 'Bad Request'],
  [499, 'Error'],
  [599, 'Error'],
])('%d is rendered, with the title %s', async (status, title) => {
  const { body } = await answerTo(Object.assign(new Error('Why'), { status, expose: true }))
  expect(body).toEqual({ type: 'about:blank', title, status, detail: 'Why' })
})

test('what comes after the headers is left to the next error handler, as it came', async () => {
  const seen: unknown[] = []
  const error = createError(404, 'secret')
  const { text } = await answerTo(
    error,
    (res) => res.write('begun, '),
    (passed) => seen.push(passed),
  )
  expect([text, seen]).toEqual(['begun, the next handler', [error]])
})

test('a 500 says nothing but its title, even if it is exposed', async () => {
  const { body } = await answerTo(createError(500, 'secret', { expose: true, code: 'ERR_STREAM_UNCHECKED' }))
  expect(body).toEqual({ type: 'about:blank', title: 'Internal Server Error', status: 500 })
})

test('registered without its parentheses it says so, and does not leave every request without an answer', async () => {
  const app = express()
  app.use(problemJson as never)
  const { status, text } = await supertest(app).get('/')
  expect([status, text]).toEqual([500, expect.stringContaining('give none: app.use(problemJson())')])
})

test('a code that is not ours is not shown', async () => {
  expect((await answerTo(createError(404, 'No', { code: 'ENOENT' }))).body).not.toHaveProperty('code')
})

test('the headers of the error are sent, but for those that would throw', async () => {
  const headers = { 'Retry-After': '5', 'X-Gone': undefined, 'X-Split': 'a\r\nX-Evil: 1', 'bad name': '1' }
  const answer = await answerTo(createError(429, 'No', { headers }))
  expect(answer.status).toBe(429)
  expect(answer.headers).toMatchObject({ 'retry-after': '5' })
  expect(Object.keys(answer.headers)).not.toEqual(expect.arrayContaining(['x-evil']))
})

test.each(['the error', 'earlier middleware'])(
  'a Transfer-Encoding of %s does not stand beside the Content-Length',
  async (whose) => {
    const headers = { 'Transfer-Encoding': 'chunked' }
    const answer = await answerTo(createError(404, 'No', whose === 'the error' ? { headers } : {}), (res) => {
      if (whose !== 'the error') res.set(headers)
    })
    expect(answer.headers).toHaveProperty('content-length')
    expect(answer.headers).not.toHaveProperty('transfer-encoding')
  },
)

test('headers that an upstream gave for another body are not sent', async () => {
  const headers = {
    Trailer: 'X-Sum',
    'Content-Encoding': 'br',
    'Content-Language': 'de',
    'Content-Range': 'bytes 0-4/5',
    'Last-Modified': 'Thu, 01 Jan 1970 00:00:00 GMT',
    'Cache-Control': 'private',
    'X-Mine': '1',
  }
  const answer = await answerTo(createError(502, 'No', { headers, expose: true }))
  expect([answer.status, answer.headers['x-mine'], answer.body.detail]).toEqual([502, '1', 'No'])
  expect(answer.headers['cache-control']).toBe('private')
  for (const name of ['trailer', 'content-encoding', 'content-language', 'content-range', 'last-modified']) {
    expect(answer.headers).not.toHaveProperty(name)
  }
})

test('a 416 says how long the whole is', async () => {
  const headers = { 'Content-Range': 'bytes */5' }
  const answer = await answerTo(createError(416, 'No', { headers }))
  expect([answer.status, answer.headers['content-range']]).toEqual([416, 'bytes */5'])
})

test('a body that is compressed on its way ends where it should, so that the connection can be used again', async () => {
  const app = express()
  app.use(compression({ threshold: 0 }), (_req, _res, next) => next(createError(404, 'é'.repeat(5000))))
  app.use(problemJson())
  const { port } = await serve(app)
  const client = await raw(port)
  const request = get('/', 'Accept-Encoding: gzip')
  client.send(request)
  await eventually(() => client.text.includes('0\r\n\r\n'))
  expect(client.text).toMatch(/^HTTP\/1.1 404 [\s\S]*Transfer-Encoding: chunked/)
  client.send(request)
  await eventually(() => client.text.split('HTTP/1.1 404').length === 3)
})

test.each([['abc'], [null], [5]])('headers that are none (%p) are not sent', async (headers) => {
  const answer = await answerTo(createError(404, 'No', { headers }))
  expect([answer.status, answer.headers['0']]).toEqual([404, undefined])
})

test('what earlier middleware said of another body is not said of this one', async () => {
  const answer = await answerTo(createError(404, 'é'), (res) => {
    res.statusMessage = 'Fine'
    res.set({
      'Content-Length': '5',
      'Content-Encoding': 'gzip',
      ETag: '"x"',
      'Content-Type': 'text/event-stream',
    })
  })
  const { headers, status, body } = answer
  const { statusMessage } = (answer as unknown as { res: { statusMessage: string } }).res
  expect([status, statusMessage, body.detail]).toEqual([404, 'Not Found', 'é'])
  expect(headers).not.toHaveProperty('etag')
  expect(headers).not.toHaveProperty('content-encoding')
})

describe('beside express-rate-limit', () => {
  test('RateLimit and RateLimit-Policy are lists that name both policies', async () => {
    const app = express()
    app.use(
      rateLimit({
        limit: 100,
        windowMs: 60_000,
        standardHeaders: 'draft-8',
        legacyHeaders: false,
        identifier: 'rate',
      }),
    )
    app.get('/', streamLimit({ keyGenerator: () => 'alice', limit: 0 }))
    app.use(problemJson())
    const { headers, status } = await supertest(app).get('/')
    expect(status).toBe(429)
    expect(headers['ratelimit-policy']).toMatch(/^"rate"; q=100; w=60.*, "sse";q=0;qu="concurrent-requests"$/)
    expect(headers.ratelimit).toMatch(/^"rate"; r=99; t=\d+.*, "sse";r=0$/)
  })

  test.each([
    ["Express's own error handler", {}],
    [
      'a handler that sends the headers of the error',
      {
        handler: (_req, res, _next, error) => void res.status(error.status).set(error.headers).end(),
      } satisfies Partial<StreamLimitOptions>,
    ],
  ])('%s names both policies too', async (_, options) => {
    const app = express()
    app.use(rateLimit({ limit: 100, windowMs: 60_000, standardHeaders: 'draft-8', identifier: 'rate' }))
    app.get('/', streamLimit({ keyGenerator: () => 'alice', limit: 0, ...options }))
    app.set('env', 'test')
    const { headers, status } = await supertest(app).get('/')
    expect(status).toBe(429)
    expect(headers['ratelimit-policy']).toMatch(/^"rate"; q=100; w=60.*, "sse";q=0;qu="concurrent-requests"$/)
    expect(headers.ratelimit).toMatch(/^"rate"; r=99; t=\d+.*, "sse";r=0$/)
  })

  test('no policy is named twice when an error handler sends the headers before problemJson does', async () => {
    const app = express()
    app.use(rateLimit({ limit: 100, windowMs: 60_000, standardHeaders: 'draft-8', identifier: 'rate' }))
    app.get('/', streamLimit({ keyGenerator: () => 'alice', limit: 0 }))
    app.use(((error, _req, res, next) => {
      res.set(error.headers)
      next(error)
    }) satisfies ErrorRequestHandler)
    app.use(problemJson())
    const { headers } = await supertest(app).get('/')
    expect(headers.ratelimit).toMatch(/^"rate"; r=99; t=\d+[^,]*, "sse";r=0$/)
  })

  test('what stands there is kept also as several fields, and whatever the case of the name', async () => {
    const app = express()
    app.get('/', (_req, res, next) => {
      res.setHeader('ratelimit-policy', ['"a";q=1', '"b";q=2'])
      next(Object.assign(createError(429, 'x'), { headers: { 'RATELIMIT-POLICY': '"c";q=3', 'X-A': 'b' } }))
    })
    app.use(problemJson())
    const { headers } = await supertest(app).get('/')
    expect([headers['ratelimit-policy'], headers['x-a']]).toEqual(['"a";q=1, "b";q=2, "c";q=3', 'b'])
  })
})
