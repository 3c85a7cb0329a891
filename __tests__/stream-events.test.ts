import { AsyncLocalStorage } from 'node:async_hooks'
import { EventEmitter, on } from 'node:events'
import { Readable } from 'node:stream'
import type { Session } from 'better-sse'
import { EventSource } from 'eventsource'
import express, { type ErrorRequestHandler, type RequestHandler, type Response } from 'express'
import {
  defineEvents,
  type OpenSessionOptions,
  openSession,
  type StreamEvent,
  type StreamEventsOptions,
  type StreamResult,
  type StreamSource,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { z } from 'zod'
import { get, open, type RawClient, raw, type StreamClient } from './support/clients.js'
import { heapAfterCollection } from './support/collect-garbage.js'
import { eventually } from './support/eventually.js'
import { FaultyStore } from './support/faulty-store.js'
import { serve } from './support/server.js'
import { ManualSource, never } from './support/sources.js'

const events = defineEvents({
  n: true,
  later: z.number().refine(async () => true),
  kept: ['a'],
})
const n = (data: unknown, id?: string) => ({ event: 'n', data, id })

interface Outcome extends Partial<StreamResult> {
  error?: Error & { code?: string }
}

/** Streams one source to each client of one server, and tells how each stream went and when. */
async function stream(
  source: StreamSource | (() => StreamSource),
  options: StreamEventsOptions = {},
  sessionOptions: Partial<OpenSessionOptions> = {},
  ...before: RequestHandler[]
) {
  const app = express()
  const limit = streamLimit({ keyGenerator: () => 'alice', limit: Infinity })
  const outcomes: Outcome[] = []
  const responses: Response[] = []
  const sessions: Session[] = []
  app.get('/', limit, ...before, async (req, res) => {
    responses.push(res)
    const session = await openSession(req, res, { events, retry: null, keepAlive: null, ...sessionOptions })
    sessions.push(session)
    await streamEvents(session, source as StreamSource, options).then(
      (result) => outcomes.push(result),
      (error) => {
        outcomes.push({ error })
        throw error
      },
    )
  })
  app.use(((_error, _req, _res, _next) => {}) satisfies ErrorRequestHandler)
  const served = await serve(app)
  const outcome = async (): Promise<Outcome> => {
    await eventually(() => outcomes.length > 0)
    return outcomes[0] as Outcome
  }
  return { ...served, limit, outcomes, outcome, responses, sessions }
}

const sources = new Set<EventSource>()

/** A real EventSource, until the end of the test. */
function eventSource(url: string): EventSource {
  const source = new EventSource(url)
  sources.add(source)
  return source
}

afterEach(() => {
  for (const source of sources) source.close()
  sources.clear()
})

const data = (client: StreamClient) => client.events.map((event) => JSON.parse(event.data))

describe('a source', () => {
  async function* generator() {
    yield n(1)
    yield n(2)
  }
  test.each<[string, StreamSource]>([
    ['an array', [n(1), n(2)]],
    ['a set', new Set([n(1), n(2)])],
    ['an array of promises', [Promise.resolve(n(1)), n(2)]],
    ['an async generator', generator()],
    ['a Readable', Readable.from([n(1), n(2)])],
    ['a function that returns an array', () => [n(1), n(2)]],
    ['an async generator function', generator],
    ['a function that returns a Readable', () => Readable.from([n(1), n(2)])],
    [
      'iterable in both ways, of which the async one is taken',
      { [Symbol.asyncIterator]: generator, [Symbol.iterator]: () => [n('never')].values() },
    ],
  ])('may be %s; when it ends, the response does, and the slot comes back', async (_, source) => {
    const { url, outcome, limit } = await stream(source)
    const client = await open(url)
    await client.over
    expect([client.response.complete, data(client)]).toEqual([true, [1, 2]])
    expect(await outcome()).toEqual({ sent: 2, withheld: 0, endedBy: 'source' })
    await eventually(() => limit.open === 0)
  })

  test.each([
    ['nothing', undefined],
    ['a number', 5],
    ['a string', 'abc'],
    ['an object', {}],
    ['a promise', Promise.resolve([])],
    ['an async function', async () => []],
    ['an async function that rejects', () => Promise.reject(new Error('unheard'))],
  ])('that is %s is an error, and the response ends', async (_, source) => {
    const { url, outcome, limit } = await stream(source as never)
    const client = await open(url)
    await client.over
    expect((await outcome()).error?.message).toMatch(/^streamEvents: the source is .*; give an iterable/)
    await eventually(() => limit.open === 0)
  })

  test('is not asked but ended when the options are none, and the response ends', async () => {
    const source = Readable.from([n(1)])
    const { url, outcome } = await stream(source, null as never)
    const client = await open(url)
    await client.over
    expect([client.events, source.destroyed]).toEqual([[], true])
    expect((await outcome()).error?.message).toMatch(/^streamEvents: options is null; give an object/)
  })

  test.each([[5], [null], [undefined]])('whose next() gives %p and no result is an error', async (step) => {
    const { url, outcome } = await stream({ [Symbol.iterator]: () => ({ next: () => step as never }) })
    await (await open(url)).over
    expect((await outcome()).error?.message).toContain('give { value, done }')
  })

  test.each<[string, () => StreamSource]>([
    ['whose events cannot be read', () => [revoked(), n(1)]],
    [
      'whose events cannot be read after a turn',
      function* () {
        for (let i = 0; i < 100; i++) yield { event: 'secret', data: 'x'.repeat(1000) }
        yield n('x'.repeat(20_000))
        yield revoked()
        yield n(1)
      },
    ],
    [
      'whose async events cannot be read',
      async function* () {
        yield Object.create(null)
        yield {
          get event(): string {
            throw new Error('no')
          },
        }
        yield n(1)
      },
    ],
  ])('%s goes on after them', async (_, source) => {
    const { url, outcome } = await stream(source)
    const client = await open(url)
    await client.over
    expect(data(client).at(-1)).toBe(1)
    expect(await outcome()).toMatchObject({ endedBy: 'source' })
  })

  test.each<[string, unknown]>([
    [
      'whose result cannot be read',
      {
        get done() {
          throw new Error('unreadable')
        },
      },
    ],
    [
      'whose value cannot be awaited',
      // biome-ignore lint/suspicious/noThenProperty: it is what is tested
      { done: false, value: { then: (_: unknown, no: (e: Error) => void) => no(new Error('unreadable')) } },
    ],
  ])('%s fails the stream, at once or later', async (_, result) => {
    for (const next of [() => result, async () => result]) {
      const { url, outcome } = await stream({ [Symbol.asyncIterator]: () => ({ next }) } as never)
      const client = await open(url)
      await client.over
      expect([client.response.complete, (await outcome()).error?.message]).toEqual([true, 'unreadable'])
    }
  })

  test.each([[Object.create(null)], [{ event: Object.create(null) }], [null]])(
    'with an event without a name (%p) rejects in strict',
    async (item) => {
      const { url, outcome } = await stream(
        async function* () {
          yield item
        } as never,
        { strict: true },
      )
      await (await open(url)).over
      expect((await outcome()).error).toMatchObject({
        code: 'ERR_STREAM_WITHHELD',
        message: expect.stringContaining('An event without a name was withheld (invalid)'),
      })
    },
  )

  test('that calls back at once for ever neither overflows the stack nor starves the loop', async () => {
    let pulls = 0
    const thenable = {
      // biome-ignore lint/suspicious/noThenProperty: it is what is tested
      then(resolve: (step: unknown) => void) {
        pulls += 1
        resolve(pulls < 50_000 ? { done: false, value: { event: 'secret' } } : { done: true })
      },
    }
    const { url, outcome } = await stream({
      [Symbol.asyncIterator]: () => ({ next: () => thenable }),
    } as never)
    await (await open(url)).over
    expect(await outcome()).toEqual({ sent: 0, withheld: 49_999, endedBy: 'source' })
  })

  test('leaves the loop a turn every 10 ms also if there are many', async () => {
    const app = express()
    const results: StreamResult[] = []
    let until = Infinity
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      results.push(
        await streamEvents(session, function* () {
          while (performance.now() < until) yield { event: 'secret' }
        }),
      )
    })
    const { url } = await serve(app)
    const clients = await Promise.all(Array.from({ length: 30 }, () => open(url)))
    until = performance.now() + 600
    let turns = 0
    const count = () => {
      turns += 1
      if (results.length < 30) setImmediate(count)
    }
    const from = performance.now()
    count()
    await Promise.all(clients.map((client) => client.over))
    await eventually(() => results.length === 30)
    const elapsed = performance.now() - from
    // With 10 ms for each of the 30 streams there would be one turn in 300 ms.
    expect(elapsed / turns).toBeLessThan(100)
  })

  test('of withheld events leaves the loop its turns, and the stream goes on after each', async () => {
    const app = express()
    let fired = 0
    const timer = setInterval(() => {
      fired += 1
    }, 1)
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      let pulled = 0
      const until = performance.now() + 300
      await streamEvents(session, function* () {
        while (performance.now() < until) {
          pulled += 1
          yield { event: 'secret' }
        }
        yield n(pulled)
      })
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    clearInterval(timer)
    expect(data(client)[0]).toBeGreaterThan(1000)
    // A turn every 10 ms makes about 30 of them in 300 ms; on a busy machine fewer, without it none.
    expect(fired).toBeGreaterThan(5)
  })
})

describe('the asynchronous context of a source is that of its own request', () => {
  const user = new AsyncLocalStorage<string>()
  const asUser: RequestHandler = (req, _res, next) => user.run(String(req.query.user), next)
  afterEach(() => jest.restoreAllMocks())

  test('also when busy streams of other users share its turns', async () => {
    // Every few events are a turn's time, so that each stream's turn is begun by another.
    let now = 0
    jest.spyOn(performance, 'now').mockImplementation(() => (now += 4))
    const seen: Record<string, Set<unknown>> = {}
    const { url } = await stream(
      () => {
        const of = new Set<unknown>()
        seen[String(user.getStore())] = of
        return (function* () {
          for (let i = 0; i < 50; i++) {
            of.add(user.getStore())
            yield n(i)
          }
        })()
      },
      {},
      {},
      asUser,
    )
    const clients = await Promise.all(['ann', 'bob', 'eve'].map((name) => open(`${url}?user=${name}`)))
    await Promise.all(clients.map((client) => client.over))
    expect(seen).toEqual({ ann: new Set(['ann']), bob: new Set(['bob']), eve: new Set(['eve']) })
  })

  test('also after a drain that the push of another user has caused', async () => {
    const seen: unknown[] = []
    let go = (_event: StreamEvent) => {}
    const first = new Promise<StreamEvent>((resolve) => (go = resolve))
    const { port, sessions, responses } = await stream(
      function* () {
        seen.push(user.getStore())
        yield first
        seen.push(user.getStore())
      },
      {},
      {},
      asUser,
    )
    const client = await raw(port)
    client.socket.pause()
    client.send(get('/?user=bob', 'Connection: close'))
    await eventually(() => seen.length === 1)
    user.run('eve', () => sessions[0]?.push('x'.repeat(12_000_000), 'n'))
    await eventually(() => responses[0]?.socket?.writableNeedDrain === true)
    go(n(1))
    client.socket.resume()
    await client.closed
    expect(seen).toEqual(['bob', 'bob'])
  })

  test('also when another user ends it', async () => {
    const seen: unknown[] = []
    const idle = () => new Promise<never>(() => {})
    const note = () => {
      seen.push(user.getStore())
      return idle()
    }
    const { url, responses, outcome } = await stream(
      (signal: AbortSignal) => {
        signal.addEventListener('abort', note)
        return { [Symbol.asyncIterator]: () => ({ next: idle, return: note }) }
      },
      {},
      {},
      asUser,
    )
    await open(`${url}?user=bob`)
    user.run('eve', () => responses[0]?.end())
    await outcome()
    expect(seen).toEqual(['bob', 'bob'])
  })
})

describe('an event', () => {
  test('is withheld with its reason and the stream goes on', async () => {
    const cycle: Record<string, unknown> = {}
    cycle.self = cycle
    const withheld: unknown[] = []
    const unread = {
      get: () => {
        throw new Error('what is not listed is not read')
      },
    }
    const unreadable = Object.defineProperties({ event: 'secret' }, { id: unread, data: unread })
    const { url, outcome } = await stream(
      [
        5 as never,
        { event: 'secret', data: 'TOPSECRET' },
        unreadable,
        n(1n),
        n(cycle),
        n(1, 'a\nb'),
        { event: 'kept', data: 'no object' },
        { event: 'later', data: 'refused' },
        n('last'),
      ],
      { onWithhold: (_event, why) => withheld.push(why) },
    )
    const client = await open(url)
    await client.over
    expect(client.text).toBe('event: n\ndata: "last"\n\n')
    expect(withheld).toEqual([
      'invalid',
      'unlisted',
      'unlisted',
      'unserialisable',
      'unserialisable',
      'bad-id',
      'invalid',
      'invalid',
    ])
    expect(await outcome()).toEqual({ sent: 1, withheld: 8, endedBy: 'source' })
  })

  test('that is withheld is reported to openSession its onWithhold if streamEvents has none', async () => {
    const withheld: unknown[] = []
    const { url } = await stream(
      [{ event: 'secret' }],
      {},
      { onWithhold: (_event, why) => withheld.push(why) },
    )
    await (await open(url)).over
    expect(withheld).toEqual(['unlisted'])
  })

  test('that is withheld rejects in strict, and nothing after it is sent', async () => {
    const { url, outcome } = await stream([n(1), { event: 'secret' }, n(2)], { strict: true })
    const client = await open(url)
    await client.over
    expect(data(client)).toEqual([1])
    expect((await outcome()).error).toMatchObject({
      code: 'ERR_STREAM_WITHHELD',
      message: expect.stringContaining('"secret" was withheld (unlisted)'),
    })
  })

  test.each([
    [{ event: 'secret' }, /\(unlisted\); list it in defineEvents/],
    [{ event: 'kept', data: 'text' }, /\(invalid\); give .* data that fits its rule/],
    [{ event: 'n', id: 5 }, /\(bad-id\); give an id that is a string/],
    [{ event: 'n', data: 1n }, /\(unserialisable\); give data that JSON\.stringify can write/],
  ])('that is withheld in strict says what to give instead: %p', async (event, message) => {
    const { url, outcome } = await stream([event] as never, { strict: true })
    await (await open(url)).over
    expect((await outcome()).error).toMatchObject({ message: expect.stringMatching(message) })
  })

  test.each<[string, StreamEventsOptions]>([
    ['in strict', { strict: true }],
    [
      'because onWithhold throws',
      {
        onWithhold: () => {
          throw new Error('noted')
        },
      },
    ],
  ])('that is withheld and rejects %s gives the source back, whose signal aborts', async (_, options) => {
    const source = new ManualSource()
    const { url, outcome } = await stream(source.start, options)
    const client = await open(url)
    await source.give({ event: 'secret' })
    await client.over
    expect((await outcome()).error).toBeDefined()
    expect([source.returned, source.signal?.aborted]).toEqual([true, true])
  })

  test('that is withheld in strict is reported before it rejects', async () => {
    const withheld: unknown[] = []
    const { url, outcome } = await stream([{ event: 'secret' }], {
      strict: true,
      onWithhold: (_event, why) => withheld.push(why),
    })
    await (await open(url)).over
    expect([(await outcome()).error?.code, withheld]).toEqual(['ERR_STREAM_WITHHELD', ['unlisted']])
  })

  test.each([
    [
      'throws',
      () => {
        throw new Error('noted')
      },
    ],
    ['rejects with', () => Promise.reject(new Error('noted'))],
  ])('that is withheld rejects with what onWithhold %s', async (_, onWithhold) => {
    const source = new ManualSource()
    const { url, outcome } = await stream(source, { onWithhold })
    const client = await open(url)
    await source.give({ event: 'secret' })
    await client.over
    expect([client.text, (await outcome()).error?.message]).toEqual(['', 'noted'])
  })

  test('that is the last and withheld rejects with what onWithhold rejects with', async () => {
    const { url, outcome } = await stream([{ event: 'secret' }], {
      onWithhold: () => Promise.reject(new Error('noted')),
    })
    await (await open(url)).over
    expect((await outcome()).error?.message).toBe('noted')
  })

  test('with an async schema keeps its place', async () => {
    const { url } = await stream([n(1), { event: 'later', data: 2 }, n(3)])
    const client = await open(url)
    await client.over
    expect(data(client)).toEqual([1, 2, 3])
  })

  test('is what its schema gives, whatever the then() of a thenable schema returns', async () => {
    const forged = { text: 'event: forged\ndata: "TOPSECRET"\n\n' }
    const validate = (value: unknown) => ({
      // biome-ignore lint/suspicious/noThenProperty: it is what is tested
      then(resolve: (result: object) => void) {
        resolve({ value })
        // biome-ignore lint/suspicious/noThenProperty: it is what is tested
        return { then: (settle: (framed: object) => void) => settle(forged) }
      },
    })
    const odd = { '~standard': { version: 1, vendor: 'test', validate } } as never
    const { url } = await stream([{ event: 'odd', data: 1 }], {}, { events: defineEvents({ odd }) })
    const client = await open(url)
    await client.over
    expect(client.text).toBe('event: odd\ndata: 1\n\n')
  })

  test('with an id sets session.lastId, and the client comes back with it', async () => {
    const app = express()
    const seen: string[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: 1 })
      seen.push(session.lastId)
      await streamEvents(session, [n(1, `id ${seen.length}`), n(2)], {
        end: seen.length < 5 ? true : 'final',
      })
      seen.push(session.lastId)
    })
    const { url } = await serve(app)
    eventSource(url)
    await eventually(() => seen.length === 6)
    expect(seen).toEqual(['', 'id 1', 'id 1', 'id 3', 'id 3', 'id 5'])
  })

  test('with an empty id resets session.lastId', async () => {
    const app = express()
    const seen: string[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      await streamEvents(session, [n(1, '7')], { end: false })
      seen.push(session.lastId)
      await streamEvents(session, [n(2, '')])
      seen.push(session.lastId)
    })
    const { url } = await serve(app)
    await (await open(url)).over
    expect(seen).toEqual(['7', ''])
  })
})

describe('events that are available in one tick', () => {
  // On a busy machine 10 ms may pass in the middle of a burst, and the event loop would get its turn there.
  beforeEach(() => {
    jest.spyOn(performance, 'now').mockReturnValue(0)
  })
  afterEach(() => jest.restoreAllMocks())

  test.each<[string, () => StreamSource]>([
    ['an array', () => Array.from({ length: 64 }, (_, i) => n(i))],
    [
      'an async generator',
      async function* () {
        for (let i = 0; i < 64; i++) yield n(i)
      },
    ],
  ])('from %s leave in one write', async (_, source) => {
    const app = express()
    let writes = 0
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const write = jest.spyOn(res, 'write')
      await streamEvents(session, source(), { end: false })
      await new Promise((resolve) => setImmediate(resolve))
      writes = write.mock.calls.length
      await streamEvents(session, [])
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect([data(client).length, writes]).toEqual([64, 1])
  })

  // A character of one byte, and one of three: the high-water mark is one of bytes.
  test.each(['x', '日'])(
    'leave in writes of one high-water mark at most, plus the event that filled it (%s)',
    async (character) => {
      const app = express()
      const sizes: number[] = []
      let highWaterMark = 0
      app.get('/', async (req, res) => {
        highWaterMark = res.writableHighWaterMark
        const session = await openSession(req, res, { events })
        const write = jest.spyOn(res, 'write')
        const length = 1000 / Buffer.byteLength(character)
        await streamEvents(session, Array(500).fill(n(character.repeat(length))), { end: false })
        sizes.push(...write.mock.calls.map(([text]) => Buffer.byteLength(String(text))))
        await streamEvents(session, [])
      })
      const { url } = await serve(app)
      const client = await open(url)
      await client.over
      expect(client.events).toHaveLength(500)
      expect(Math.max(...sizes)).toBeLessThan(highWaterMark + 1100)
      expect(Math.min(...sizes.slice(0, -1))).toBeGreaterThanOrEqual(highWaterMark)
    },
  )
})

describe('middleware that wraps write', () => {
  test('and says that there is room for ever leaves the loop a turn at least every high-water mark', async () => {
    // So that it is not the clock which gives the turns.
    jest.spyOn(performance, 'now').mockReturnValue(0)
    const app = express()
    const pulledInTurn: number[] = [0]
    let highWaterMark = 0
    app.get('/', async (req, res) => {
      highWaterMark = res.writableHighWaterMark
      const session = await openSession(req, res, { events })
      res.write = () => true
      let isOver = false
      const turn = () => {
        pulledInTurn.push(0)
        if (!isOver) setImmediate(turn)
      }
      setImmediate(turn)
      await streamEvents(session, function* () {
        for (let i = 0; i < 500; i++) {
          pulledInTurn.push((pulledInTurn.pop() ?? 0) + 1)
          yield n('x'.repeat(1000))
        }
      })
      isOver = true
    })
    const { url } = await serve(app)
    await (await open(url)).over
    jest.restoreAllMocks()
    expect(pulledInTurn.reduce((sum, pulled) => sum + pulled)).toBe(500)
    expect(Math.max(...pulledInTurn) * 1000).toBeLessThan(highWaterMark + 1000)
  })

  test('and says that there is room for ever does not stop a source whose events come turn after turn', async () => {
    const app = express()
    const results: StreamResult[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      res.write = () => true
      results.push(
        await streamEvents(session, async function* () {
          for (let i = 0; i < 20; i++) {
            await new Promise((resolve) => setImmediate(resolve))
            yield n('x'.repeat(res.writableHighWaterMark))
          }
        }),
      )
    })
    const { url } = await serve(app)
    await (await open(url)).over
    await eventually(() => results.length === 1)
    expect(results[0]?.sent).toBe(20)
  })

  test('and says that there is no room is waited for, until it emits drain', async () => {
    const app = express()
    let response: Response | undefined
    let written = 0
    app.get('/', async (req, res) => {
      response = res
      const session = await openSession(req, res, { events, retry: null, keepAlive: null })
      res.write = () => {
        written += 1
        return false
      }
      await streamEvents(session, Array(100).fill(n('x'.repeat(1000))))
    })
    const { url } = await serve(app)
    const client = await open(url)
    for (let drains = 1; drains <= 3; drains++) {
      await eventually(() => written === drains)
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
      expect(written).toBe(drains)
      response?.emit('drain')
    }
    client.close()
  })

  test('and returns nothing does not hide that the client has stopped reading', async () => {
    const app = express()
    let pulls = 0
    app.get('/', async (req, res) => {
      const write = res.write.bind(res)
      res.write = ((...args: [string]) => {
        write(...args)
      }) as never
      const session = await openSession(req, res, { events, keepAlive: null })
      await streamEvents(session, function* () {
        for (; pulls < 20_000; pulls++) yield n('x'.repeat(1000))
      })
    })
    const { url } = await serve(app)
    const client = await open(url)
    client.response.pause()
    let before = -1
    for (let quiet = 0; quiet < 100; quiet = pulls === before && pulls > 0 ? quiet + 1 : 0) {
      before = pulls
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(pulls).toBeLessThan(20_000)
    client.close()
  })
})

test('pushes to a slow reader, tick after tick, add one listener for its drain at most', async () => {
  const app = express()
  let most = 0
  app.get('/', async (req, res) => {
    const session = await openSession(req, res, { events, keepAlive: null, maxPushedBytes: Infinity })
    const drainListeners = () => res.listenerCount('drain') + req.socket.listenerCount('drain')
    const before = drainListeners()
    session.push('x'.repeat(8 * 1024 * 1024), 'n')
    for (let i = 0; i < 20; i++) {
      await new Promise((resolve) => setImmediate(resolve))
      session.push(i, 'n')
      most = Math.max(most, drainListeners() - before)
    }
    await streamEvents(session, [])
  })
  const { url } = await serve(app)
  const client = await open(url)
  client.response.pause()
  await eventually(() => most > 0)
  client.response.resume()
  await client.over
  expect([most, client.events.length]).toEqual([1, 21])
})

test('a source that has been asked for an event is not asked again because of a drain', async () => {
  const source = new ManualSource()
  const app = express()
  let push = () => {}
  let drains = 0
  app.get('/', async (req, res) => {
    const session = await openSession(req, res, { events, keepAlive: null })
    req.socket.on('drain', () => (drains += 1))
    push = () => void session.push('x'.repeat(8_000_000), 'n')
    await streamEvents(session, source)
  })
  const { url } = await serve(app)
  const client = await open(url)
  await source.give(n('x'.repeat(8_000_000)))
  await eventually(() => source.pulls === 2)
  const before = drains
  push()
  await eventually(() => drains > before)
  await source.give(n('last'))
  await client.until(() => client.events.length === 3)
  expect(source.pulls).toBe(3)
  client.close()
})

test('after a drain that another listener has filled up again, a source rests until the next', async () => {
  const needed: boolean[] = []
  let needsDrain = () => false
  const { port, outcome } = await stream(
    function* () {
      for (let i = 0; i < 100; i++) {
        needed.push(needsDrain())
        yield n('x'.repeat(i === 0 ? 8_000_000 : 100_000))
      }
    },
    {},
    {},
    (req, res, next) => {
      needsDrain = () => req.socket.writableNeedDrain
      let isFilled = false
      const fill = () => {
        // More than the kernel takes at once.
        if (!isFilled) res.write(`: ${'x'.repeat(12_000_000)}\n\n`)
        isFilled = true
      }
      // Of the socket if the chunk was framed here, else of the response.
      req.socket.once('drain', fill)
      res.once('drain', fill)
      next()
    },
  )
  const client = await raw(port)
  await client.send(get('/', 'Connection: close')).closed
  expect([client.text.length > 12_000_000, needed.length, needed.includes(true)]).toEqual([true, 100, false])
  expect((await outcome()).sent).toBe(100)
})

describe('the end', () => {
  test("'final' tells an EventSource not to come back", async () => {
    const { url, outcomes } = await stream([n(1)], { end: 'final' }, { retry: 1 })
    const client = await open(url)
    await client.over
    expect(client.retries).toEqual([1, 2147483647])
    const source = eventSource(url)
    await new Promise((resolve) => source.addEventListener('error', resolve))
    expect([source.readyState, outcomes.length]).toEqual([EventSource.CONNECTING, 2])
  })

  test('false keeps the response open for more streams, one after the other or at the same time', async () => {
    const app = express()
    const results: unknown[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: null })
      results.push(await streamEvents(session, [n(1)], { end: false }))
      const first = new ManualSource()
      const second = new ManualSource()
      const both = [first, second].map((source) => streamEvents(session, source, { end: false }))
      await first.give(n(2))
      await second.give(n(3))
      await first.give(n(4))
      await first.end()
      await second.give(n(5))
      await second.end()
      results.push(...(await Promise.all(both)))
      session.push(6, 'n')
      results.push(await streamEvents(session, []))
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(data(client)).toEqual([1, 2, 3, 4, 5, 6])
    expect(results).toEqual([1, 2, 2, 0].map((sent) => ({ sent, withheld: 0, endedBy: 'source' })))
  })

  test('of one of two streams at the same time ends the other as aborted', async () => {
    const app = express()
    const endings: unknown[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const results = await Promise.all([streamEvents(session, never), streamEvents(session, [n(1)])])
      endings.push(...results.map((result) => result.endedBy))
    })
    const { url } = await serve(app)
    await (await open(url)).over
    await eventually(() => endings.length === 2)
    expect(endings).toEqual(['aborted', 'source'])
  })

  test.each(['forever', 1.5, null])('cannot be %p', async (end) => {
    const { url, outcome } = await stream([n(1)], { end: end as never })
    const client = await open(url)
    await client.over
    expect([client.text, (await outcome()).error?.message]).toEqual(['', expect.stringContaining("'final'")])
  })
})

/** A Readable that has one event and then nothing for ever. */
function idleReadable(destroyed: () => void) {
  const readable = new Readable({ objectMode: true, read() {}, destroy: destroyed })
  readable.push(n(1))
  return readable
}
test.each([
  ['strict', 'yes'],
  ['strict', null],
  ['onWithhold', 'log'],
  ['signal', {}],
  ['signal', null],
])('%s: %p is an error, and the response ends', async (name, value) => {
  const { url, outcome } = await stream([n(1)], { [name]: value })
  const client = await open(url)
  await client.over
  expect([client.text, (await outcome()).error]).toEqual([
    '',
    expect.objectContaining({
      code: 'ERR_STREAM_BAD_OPTION',
      message: expect.stringMatching(`^streamEvents: ${name} is .*; give `),
    }),
  ])
})

/** An object that throws whatever is asked of it. */
function revoked() {
  const { proxy, revoke } = Proxy.revocable({ event: 'n' }, {})
  revoke()
  return proxy
}

describe('when the client leaves', () => {
  test('before the start, a source that was handed over running is returned', async () => {
    const emitter = new EventEmitter()
    const readable = Readable.from([n(1)])
    const cancel = jest.fn()
    const app = express()
    const endings: string[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      for (const source of [on(emitter, 'x'), readable, new ReadableStream({ cancel })] as StreamSource[]) {
        endings.push((await streamEvents(session, source)).endedBy)
      }
    })
    const { url } = await serve(app)
    await open(url, { method: 'HEAD' })
    await eventually(() => endings.length === 3)
    expect(endings).toEqual(['client', 'client', 'client'])
    expect([emitter.listenerCount('x'), readable.destroyed, cancel.mock.calls.length]).toEqual([0, true, 1])
  })

  test.each(['HEAD', 'GET'])('(%s), a bus that has other viewers is not destroyed', async (method) => {
    const bus = { destroy: jest.fn(), cancel: jest.fn(), ...never }
    const { url, outcome } = await stream(bus)
    const client = await open(url, { method })
    client.close()
    await outcome()
    expect([bus.destroy, bus.cancel].map((fn) => fn.mock.calls.length)).toEqual([0, 0])
  })

  test("before the start, what a Readable says to its end is nobody's business", async () => {
    const closed = jest.fn()
    const readable = new Readable({ destroy: (_error, done) => done(new Error('cleanup failed')) })
    readable.once('close', closed)
    const { url } = await stream(readable)
    await open(url, { method: 'HEAD' })
    await eventually(() => closed.mock.calls.length === 1)
  })

  test('a source that throws whatever else it is asked keeps nobody from settling', async () => {
    const items = new Proxy(never, {
      get: (target, name) => {
        if (name in target || typeof name === 'symbol' || name === 'then') return Reflect.get(target, name)
        throw new Error(`There is no ${name}`)
      },
    })
    const { url, outcome, sessions } = await stream(items)
    const client = await open(url)
    await eventually(() => sessions.length === 1)
    const other = streamEvents(sessions[0] as Session, never)
    client.close()
    expect([await outcome(), (await other).endedBy]).toMatchObject([{ endedBy: 'client' }, 'client'])
    expect(sessions[0]?.isConnected).toBe(false)
  })

  test.each<[string, (over: () => void) => StreamSource]>([
    ['Readable is destroyed', (over) => idleReadable(over)],
    ['Readable that a function returned is destroyed', (over) => () => idleReadable(over)],
    [
      'web stream is cancelled',
      (over) => new ReadableStream({ start: (controller) => controller.enqueue(n(1)), cancel: over }),
    ],
  ])('an idle %s', async (_, create) => {
    const over = jest.fn()
    const { url } = await stream(create(over))
    const client = await open(url)
    await client.until(() => client.events.length === 1)
    client.close()
    await eventually(() => over.mock.calls.length === 1)
  })

  test('a source that stays blocked for ever holds on to nothing of ours', async () => {
    const blocked = new Promise<never>(() => {})
    const { url, outcome, responses, sessions } = await stream(async function* () {
      yield n(1)
      yield await blocked
    })
    const client = await open(url)
    await client.until(() => client.events.length === 1)
    const refs = [...responses.splice(0), ...sessions.splice(0)].map((each) => new WeakRef<object>(each))
    client.close()
    await outcome()
    await eventually(() => heapAfterCollection() > 0 && refs.every((ref) => !ref.deref()))
    expect(blocked).toBeInstanceOf(Promise)
  })

  test('before the start, a source that can be returned and destroyed is returned', async () => {
    const calls: string[] = []
    const source = {
      ...never,
      return: () => calls.push('return'),
      destroy: () => calls.push('destroy'),
    }
    const app = express()
    app.get('/', async (req, res) => {
      await streamEvents(await openSession(req, res, { events }), source)
    })
    await open((await serve(app)).url, { method: 'HEAD' })
    await eventually(() => calls.length > 0)
    expect(calls).toEqual(['return'])
  })

  test('an idle source is returned, its signal aborts and the stream settles at once, even if it ignores both', async () => {
    const source = new ManualSource()
    const { url, outcome, limit } = await stream(source.start)
    const client = await open(url)
    await source.give(n(1))
    await client.until(() => client.events.length === 1)
    expect([source.signal?.aborted, source.returned]).toEqual([false, false])
    client.close()
    expect(await outcome()).toEqual({ sent: 1, withheld: 0, endedBy: 'client' })
    expect([source.signal?.aborted, source.returned, source.pulls, limit.open]).toEqual([true, true, 2, 0])
    await source.give(n(2))
    expect(source.pulls).toBe(2)
  })

  test('one that only half-closes, and reads to the end what the application has ended, has not left', async () => {
    const app = express()
    const endings: string[] = []
    let response: Response | undefined
    app.get('/', async (req, res) => {
      response = res
      const session = await openSession(req, res, { events, maxPushedBytes: Infinity })
      session.push('x'.repeat(8 * 1024 * 1024), 'n')
      res.end()
      await new Promise((resolve) => res.on('close', resolve))
      endings.push((await streamEvents(session, [])).endedBy)
    })
    const { port } = await serve(app)
    const client = await raw(port)
    client.send(get('/'))
    await eventually(() => client.text.length > 0)
    client.socket.pause()
    client.socket.end()
    await eventually(() => response?.req.socket.readableEnded === true)
    client.socket.resume()
    await eventually(() => endings.length === 1)
    expect(endings).toEqual(['aborted'])
  })

  test('a generator gets to its finally', async () => {
    let cleanedUp = false
    const { url, outcome } = await stream(async function* (signal: AbortSignal) {
      try {
        yield n(1)
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
      } finally {
        cleanedUp = true
      }
    })
    const client = await open(url)
    await client.until(() => client.events.length === 1)
    client.close()
    await outcome()
    await eventually(() => cleanedUp)
  })

  test('what the source throws or rejects with afterwards is dropped', async () => {
    const source = new ManualSource()
    const { url, outcome } = await stream((signal: AbortSignal) => {
      source.start(signal)
      const iterator = source[Symbol.asyncIterator]()
      return {
        [Symbol.asyncIterator]: () => ({
          next: () => iterator.next(),
          return: () => Promise.reject(new Error('from return')),
        }),
      }
    })
    const client = await open(url)
    await source.give(n(1))
    await client.until(() => client.events.length === 1)
    client.close()
    expect((await outcome()).endedBy).toBe('client')
    await source.fail(new Error('too late'))
    await new Promise((resolve) => setImmediate(resolve))
  })

  test('while a schema is awaited, nothing more is pulled', async () => {
    let pass: () => void = () => {}
    let pulls = 0
    const slow = defineEvents({
      slow: z.unknown().refine(() => new Promise<boolean>((resolve) => (pass = () => resolve(true)))),
    })
    const { url, outcome } = await stream(
      function* () {
        for (;;) {
          pulls += 1
          yield { event: 'slow' }
        }
      },
      {},
      { events: slow },
    )
    const client = await open(url)
    await eventually(() => pulls === 1)
    client.close()
    expect(await outcome()).toEqual({ sent: 0, withheld: 0, endedBy: 'client' })
    pass()
    await new Promise((resolve) => setImmediate(resolve))
    expect(pulls).toBe(1)
  })
})

describe('when the source throws', () => {
  test('the viewer gets what was sent before and not a word of the error', async () => {
    const { url, outcome, limit } = await stream(async function* () {
      yield n(1)
      throw new Error('TOPSECRET')
    })
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text]).toEqual([true, 'event: n\ndata: 1\n\n'])
    expect((await outcome()).error?.message).toBe('TOPSECRET')
    expect(limit.open).toBe(0)
  })

  test.each([
    [
      'as it starts',
      () => {
        throw new Error('early')
      },
    ],
    [
      'in its first next()',
      () => ({
        [Symbol.iterator]: () => ({
          next: () => {
            throw new Error('early')
          },
        }),
      }),
    ],
    [
      'as a rejection',
      () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error('early')) }) }),
    ],
    ['in a promise it yields', () => [Promise.reject(new Error('early'))]],
  ])('%s, the stream rejects and the response ends, also with end: false', async (_, source) => {
    const { url, outcome } = await stream(source as never, { end: false })
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text, (await outcome()).error?.message]).toEqual([
      true,
      '',
      'early',
    ])
  })

  test('a slow reader still gets all that was sent, and only then the caller is told', async () => {
    const size = 8 * 1024 * 1024
    const app = express()
    const told: string[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const big = streamEvents(session, [n('x'.repeat(size))], { end: false })
      const failing = streamEvents(session, () => {
        throw new Error('while 8 MB wait')
      })
      await failing.catch((error) => told.push(error.message))
      expect((await big).sent).toBe(1)
      told.push('big')
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.until(() => client.text.length > 100)
    client.response.pause()
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(told).toEqual([])
    client.response.resume()
    await client.over
    expect([client.response.complete, client.text.length > size]).toEqual([true, true])
    await eventually(() => told.length === 2)
    expect(told).toEqual(['while 8 MB wait', 'big'])
  })
})

describe('what a source gives or throws after it has ended the stream itself is dropped', () => {
  test.each<[string, (end: () => void) => () => Iterable<unknown> | AsyncIterable<unknown>]>([
    [
      'an error',
      (end) =>
        async function* () {
          yield n(1)
          end()
          throw new Error('unheard')
        },
    ],
    [
      'a rejecting event',
      (end) =>
        function* () {
          yield n(1)
          end()
          yield Promise.reject(new Error('unheard'))
        },
    ],
    [
      'a rejecting return value',
      () =>
        function* () {
          yield n(1)
          return Promise.reject(new Error('unheard'))
        },
    ],
    [
      'a rejecting event that arrives later',
      (end) => () => {
        const steps = [() => n(1), () => Promise.reject(new Error('unheard'))]
        return {
          [Symbol.asyncIterator]: () => ({
            next: async () => {
              if (steps.length === 1) setImmediate(end)
              await new Promise((resolve) => setImmediate(resolve))
              return { value: steps.shift()?.() }
            },
          }),
        }
      },
    ],
    [
      'a result that cannot be read',
      (end) => () => ({
        [Symbol.asyncIterator]: () => {
          let pulls = 0
          return {
            async next() {
              pulls += 1
              if (pulls === 1) return { done: false, value: n(1) }
              await null
              end()
              return {
                done: false,
                get value(): never {
                  throw new Error('unreadable')
                },
              }
            },
          }
        },
      }),
    ],
    [
      'an event whose schema ends it',
      (end) =>
        function* () {
          yield n(1)
          yield {
            event: 'n',
            get data() {
              end()
              return 'after the end'
            },
          }
        },
    ],
  ])('%s', async (_, source) => {
    const unheard: unknown[] = []
    const app = express()
    const results: StreamResult[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const controller = new AbortController()
      const { signal } = controller
      const start = source(() => controller.abort()) as never
      results.push(await streamEvents(session, start, { signal, end: false }))
      res.end()
    })
    const listen = (reason: unknown) => unheard.push(reason)
    process.on('unhandledRejection', listen)
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
    process.off('unhandledRejection', listen)
    expect([data(client), results[0]?.sent, unheard]).toEqual([[1], 1, []])
  })
})

describe('when middleware fails at the end of the response', () => {
  /** As a session store does that cannot serialise its session. */
  const failingEnd: express.RequestHandler = (_req, res, next) => {
    res.end = () => {
      throw new Error('cannot save the session')
    }
    next()
  }

  test.each<[string, StreamSource]>([
    ['at the end of the source', [n(1)]],
    [
      'after an error of the source',
      async function* () {
        yield n(1)
        throw new Error('the source')
      },
    ],
    [
      'after a turn',
      function* () {
        for (let i = 0; i < 100; i++) yield n('x'.repeat(1000))
      },
    ],
  ])('%s, the stream rejects with that, the response ends and other streams go on', async (_, source) => {
    const app = express()
    const limit = streamLimit({ keyGenerator: () => 'alice', limit: Infinity })
    const errors: string[] = []
    app.get('/bad', limit, failingEnd, async (req, res) => {
      const session = await openSession(req, res, { events })
      await streamEvents(session, source).catch((error) => errors.push(error.message))
    })
    app.get('/good', limit, async (req, res) => {
      const many = Array.from({ length: 300 }, () => n('x'.repeat(1000)))
      await streamEvents(await openSession(req, res, { events }), many)
    })
    const { url } = await serve(app)
    const [bad, ...good] = await Promise.all([
      open(`${url}/bad`),
      ...[1, 2, 3].map(() => open(`${url}/good`)),
    ])
    await Promise.all([bad?.over, ...good.map((client) => client.over)])
    await eventually(() => errors.length === 1 && limit.open === 0)
    expect(errors).toEqual(['cannot save the session'])
    expect(bad?.events.length).toBeGreaterThan(0)
    expect(good.map((client) => client.events.length)).toEqual([300, 300, 300])
  })

  test('by its signal, the stream rejects with that and the response ends', async () => {
    const app = express()
    const errors: string[] = []
    const controller = new AbortController()
    app.get('/', failingEnd, async (req, res) => {
      const session = await openSession(req, res, { events })
      await streamEvents(session, never, { signal: controller.signal }).catch((e) => errors.push(e.message))
    })
    const { url } = await serve(app)
    const client = await open(url)
    controller.abort()
    await client.over
    await eventually(() => errors.length === 1)
    expect(client.response.complete).toBe(true)
  })
})

/** Middleware that holds the end of the response back for ever, as one does that waits for a store that hangs. */
const heldEnd: RequestHandler = (_req, res, next) => {
  res.end = () => res
  next()
}

test.each<[string, () => Iterable<StreamEvent>, object]>([
  ['ends', () => [n(1)], { endedBy: 'stalled' }],
  [
    'throws',
    () => {
      throw new Error('early')
    },
    { error: { message: 'early' } },
  ],
])(
  'a source that %s settles its stream within stallTimeoutMs also if the end is held',
  async (_, source, how) => {
    const { url, outcome } = await stream(source, {}, { stallTimeoutMs: 100 }, heldEnd)
    await open(url)
    expect(await outcome()).toMatchObject(how)
  },
)

test.each<[string, string, number, (client: RawClient, res?: Response) => void]>([
  ['stalled', 'the client stops reading', 100, () => {}],
  ['client', 'the client leaves', 60_000, (client) => client.socket.resetAndDestroy()],
  ['aborted', 'the application destroys the socket', 60_000, (_, res) => res?.req.socket.destroy()],
])(
  "a stream whose last text and end leave in one write is '%s' if %s before they arrive",
  async (endedBy, _, stallTimeoutMs, leave) => {
    const source = new ManualSource()
    const { port, outcome, sessions, responses } = await stream(source, {}, { stallTimeoutMs })
    const client = await raw(port)
    client.socket.pause()
    client.send(get('/'))
    await eventually(() => source.pulls === 1)
    sessions[0]?.push('x'.repeat(12_000_000), 'n')
    await source.end()
    await eventually(() => responses[0]?.writableEnded === true)
    leave(client, responses[0])
    expect((await outcome()).endedBy).toBe(endedBy)
  },
)

describe('when the application ends it', () => {
  test('an idle source is returned at once, also if middleware holds the end back for ever', async () => {
    const source = new ManualSource()
    const { url, outcome, responses } = await stream(source.start, {}, {}, heldEnd)
    await open(url)
    await eventually(() => source.pulls === 1)
    responses[0]?.end()
    expect([source.returned, source.signal?.aborted]).toEqual([true, true])
    expect((await outcome()).endedBy).toBe('aborted')
  })

  test('an idle source is returned at once by a kick, also if middleware that came later holds the end back', async () => {
    const source = new ManualSource()
    const store = new FaultyStore(60_000)
    const limiter = streamLimit({ keyGenerator: () => 'alice', store })
    const { url, outcome, responses } = await stream(source.start, {}, {}, limiter)
    await open(url)
    await eventually(() => source.pulls === 1)
    for (const res of responses) heldEnd(res.req, res, () => {})
    store.notify(store.asked, 'kicked')
    expect([source.returned, source.signal?.aborted]).toEqual([true, true])
    expect((await outcome()).endedBy).toBe('kicked')
  })

  test.each<[string, (res: Response) => unknown]>([
    ['end()', (res) => res.end()],
    ['destroy()', (res) => res.destroy()],
    ['destroy(error)', (res) => res.on('error', () => {}).destroy(new Error('of the application'))],
  ])('by res.%s, an idle source is returned and its signal aborts', async (_, over) => {
    const source = new ManualSource()
    const { url, outcome, responses } = await stream(source.start)
    const client = await open(url)
    await source.give(n(1))
    await client.until(() => client.events.length === 1)
    over(responses[0] as Response)
    expect((await outcome()).endedBy).toBe('aborted')
    expect([source.returned, source.signal?.aborted]).toEqual([true, true])
  })

  test('by its signal, the response ends after what was sent', async () => {
    const source = new ManualSource()
    const controller = new AbortController()
    const { url, outcome } = await stream(source.start, { signal: controller.signal, end: 'final' })
    const client = await open(url)
    await source.give(n(1))
    await client.until(({ events }) => events.length === 1)
    controller.abort()
    await client.over
    expect([client.response.complete, data(client), client.retries]).toEqual([true, [1], [2147483647]])
    expect((await outcome()).endedBy).toBe('aborted')
    expect([source.returned, source.signal?.aborted]).toEqual([true, true])
  })

  test.each([true, false])(
    'by its signal from within the source (end: %p), nothing more is written and it is returned',
    async (end) => {
      const controller = new AbortController()
      let cleanedUp = false
      const app = express()
      const results: StreamResult[] = []
      app.get('/', async (req, res) => {
        const session = await openSession(req, res, { events })
        const result = await streamEvents(
          session,
          function* () {
            try {
              yield n(1)
              controller.abort()
              yield n('after the abort')
            } finally {
              cleanedUp = true
            }
          },
          { signal: controller.signal, end },
        )
        results.push(result)
        res.end()
      })
      const { url } = await serve(app)
      const client = await open(url)
      await client.over
      expect([data(client), cleanedUp]).toEqual([[1], true])
      await eventually(() => results.length === 1)
      expect(results).toEqual([{ sent: 1, withheld: 0, endedBy: 'aborted' }])
    },
  )

  test.each<[string, (res: Response) => void, unknown[]]>([
    ['res.end()', (res) => res.end(), [1, 2]],
    ['destroying the socket', (res) => res.req.socket.destroy(), []],
  ])(
    'by %s from within the source, what came before is counted, nothing after it, and it is returned',
    async (_, end, arrived) => {
      let cleanedUp = false
      const responses: Response[] = []
      const { url, outcome, sessions } = await stream(
        function* () {
          try {
            yield n(1)
            yield n(2, 'two')
            for (const res of responses) end(res)
            yield n(3, 'three')
          } finally {
            cleanedUp = true
          }
        },
        {},
        {},
        (_req, res, next) => {
          responses.push(res)
          next()
        },
      )
      const client = await open(url)
      await client.over
      expect(await outcome()).toEqual({ sent: 2, withheld: 0, endedBy: 'aborted' })
      expect([data(client), cleanedUp, sessions[0]?.lastId]).toEqual([arrived, true, 'two'])
    },
  )

  test('from within next(), the source is returned once, and not before next() is done', async () => {
    const calls: string[] = []
    const controller = new AbortController()
    const { url, outcome } = await stream(
      {
        [Symbol.iterator]: () => ({
          next: () => {
            controller.abort()
            calls.push('next')
            return { value: n(1) }
          },
          return: () => {
            calls.push('return')
            return { value: undefined, done: true }
          },
        }),
      },
      { signal: controller.signal },
    )
    await (await open(url)).over
    expect([calls, await outcome()]).toMatchObject([['next', 'return'], { sent: 0, endedBy: 'aborted' }])
  })

  test('by res.destroy() from within the source, nothing more is pulled, and it is returned', async () => {
    let pulledAfter = 0
    let cleanedUp = false
    const app = express()
    const results: StreamResult[] = []
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      results.push(
        await streamEvents(session, function* () {
          try {
            yield n(1)
            res.destroy()
            yield n(2)
            for (; pulledAfter < 1000; pulledAfter++) yield n(3)
          } finally {
            cleanedUp = true
          }
        }),
      )
    })
    const { url } = await serve(app)
    await (await open(url).catch(() => undefined))?.over
    await eventually(() => results.length === 1)
    expect([pulledAfter, cleanedUp, results[0]?.endedBy]).toEqual([0, true, 'aborted'])
  })

  test('by its signal as the source starts, what it starts is returned and not asked for anything', async () => {
    const source = new ManualSource()
    const controller = new AbortController()
    const { url, outcome } = await stream(
      (signal) => {
        controller.abort()
        return source.start(signal)
      },
      { signal: controller.signal },
    )
    await (await open(url)).over
    expect(await outcome()).toEqual({ sent: 0, withheld: 0, endedBy: 'aborted' })
    expect([source.returned, source.pulls, source.signal?.aborted]).toEqual([true, 0, true])
  })

  test('by its signal with end: false, the response stays open whatever the source throws later', async () => {
    const source = new ManualSource()
    const app = express()
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const controller = new AbortController()
      const stopped = streamEvents(session, source, { end: false, signal: controller.signal })
      await eventually(() => source.pulls === 1)
      controller.abort()
      await stopped
      await source.fail(new Error('too late'))
      await new Promise((resolve) => setImmediate(resolve))
      await streamEvents(session, [n('still open')])
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(data(client)).toEqual(['still open'])
  })

  test('by one signal that many streams share, it has one listener of ours, and none afterwards', async () => {
    const controller = new AbortController()
    const add = jest.spyOn(controller.signal, 'addEventListener')
    const remove = jest.spyOn(controller.signal, 'removeEventListener')
    const { url, outcomes } = await stream(never, { signal: controller.signal })
    const clients = await Promise.all(Array.from({ length: 20 }, () => open(url)))
    await eventually(() => add.mock.calls.length > 0)
    controller.abort()
    await Promise.all(clients.map((client) => client.over))
    await eventually(() => outcomes.length === 20)
    expect([add.mock.calls.length, remove.mock.calls.length]).toEqual([1, 1])
  })

  test('by a signal that has aborted already, the source is not started', async () => {
    const source = new ManualSource()
    const { url, outcome } = await stream(source.start, { signal: AbortSignal.abort() })
    await (await open(url)).over
    expect([await outcome(), source.signal]).toEqual([
      { sent: 0, withheld: 0, endedBy: 'aborted' },
      undefined,
    ])
  })

  test('by its signal with end: false, the response stays open', async () => {
    const app = express()
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events })
      const controller = new AbortController()
      const stopped = streamEvents(session, never, { end: false, signal: controller.signal })
      controller.abort()
      const { endedBy } = await stopped
      await streamEvents(session, [n(endedBy)])
    })
    const { url } = await serve(app)
    const client = await open(url)
    await client.over
    expect(data(client)).toEqual(['aborted'])
  })
})
