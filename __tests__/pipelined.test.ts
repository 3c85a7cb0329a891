import type { Session } from 'better-sse'
import express, { type Response } from 'express'
import {
  defineEvents,
  MemoryStore,
  openSession,
  type StreamResult,
  type StreamSource,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { get, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'
import { untilAborted } from './support/sources.js'

const events = defineEvents({ n: true })

/** A store that can kick. */
class KickingStore extends MemoryStore {
  readonly #taken: string[] = []
  #onEnded: (slotIds: readonly string[], state: 'kicked') => void = () => {}

  override acquire(key: string, slotId: string, limit: number) {
    this.#taken.push(slotId)
    return super.acquire(key, slotId, limit)
  }

  watch(onEnded: (slotIds: readonly string[], state: 'kicked') => void): void {
    this.#onEnded = onEnded
  }

  kick(key: string): readonly string[] {
    for (const slotId of this.#taken) this.release(key, slotId)
    this.#onEnded(this.#taken, 'kicked')
    return this.#taken
  }
}

/** A server whose /first is answered by hand, and whose /second streams behind it on the same connection. */
async function serveTwo(source: StreamSource = untilAborted) {
  const app = express()
  const store = new KickingStore()
  const limit = streamLimit({ keyGenerator: () => 'alice', store })
  const sessions: Session[] = []
  const results: (StreamResult | Error)[] = []
  const waiting: Response[] = []
  let finish: (() => void) | undefined
  app.get('/first', (_req, res) => {
    finish = () => res.end('first')
  })
  app.get('/second', limit, async (req, res) => {
    waiting.push(res)
    try {
      const session = await openSession(req, res, { events, keepAlive: null })
      sessions.push(session)
      results.push(await streamEvents(session, source))
    } catch (error) {
      results.push(error as Error)
    }
  })
  const { port } = await serve(app)
  const client = await raw(port)
  client.send(get('/first') + get('/second'))
  await eventually(() => waiting.length === 1 && finish !== undefined)
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve))
  return { client, limit, store, sessions, results, waiting, finish: () => finish?.() }
}

describe('a stream that is pipelined behind another response', () => {
  test('opens when its turn comes, and nothing is pulled before; its slot is held all the time', async () => {
    let pulls = 0
    const { client, limit, sessions, results, finish } = await serveTwo(function* () {
      for (; pulls < 100; pulls += 1) yield { event: 'n', data: pulls }
    })
    expect([sessions.length, pulls, limit.open, client.text]).toEqual([0, 0, 1, ''])
    finish()
    await client.closed
    expect(results).toEqual([{ sent: 100, withheld: 0, endedBy: 'source' }])
    const numbers = [...client.text.matchAll(/^data: (\d+)$/gm)].map(([, number]) => Number(number))
    expect(numbers).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(client.text).toMatch(/^HTTP\/1.1 200 OK[\s\S]*\r\n\r\nfirstHTTP\/1.1 200 OK/)
    await eventually(() => limit.open === 0)
  })

  test('whose client leaves before its turn opens no source, and gives its slot back', async () => {
    const { client, limit, results } = await serveTwo()
    client.destroy()
    await eventually(() => results.length === 1)
    expect(results).toEqual([{ sent: 0, withheld: 0, endedBy: 'client' }])
    await eventually(() => limit.open === 0)
  })

  test('whose response is ended before its turn leaves the one in front of it alone', async () => {
    const { client, results, waiting, finish } = await serveTwo()
    waiting[0]?.end('sorry')
    await eventually(() => results.length === 1)
    expect(results).toEqual([{ sent: 0, withheld: 0, endedBy: 'aborted' }])
    finish()
    await eventually(() => client.text.includes('sorry'))
    expect(client.text).toMatch(/\r\n\r\nfirstHTTP\/1.1 200 OK[\s\S]*\r\n\r\nsorry$/)
  })

  test('that is kicked before its turn leaves the one in front of it alone, and is answered with 204', async () => {
    const { client, limit, store, results, finish } = await serveTwo()
    store.kick('alice')
    await eventually(() => results.length === 1)
    expect([results, await limit.count('alice')]).toEqual([[{ sent: 0, withheld: 0, endedBy: 'kicked' }], 0])
    finish()
    await eventually(() => client.text.includes('204'))
    expect(client.text).toMatch(/\r\n\r\nfirstHTTP\/1.1 204 No Content/)
    await eventually(() => limit.open === 0)
  })

  test('cannot be opened twice, also while it waits', async () => {
    const app = express()
    const outcomes: unknown[] = []
    app.get(
      '/first',
      (_req, res) => void eventually(() => outcomes.length === 1).then(() => res.end('first')),
    )
    app.get('/second', async (req, res) => {
      const opening = openSession(req, res, { events })
      outcomes.push(await openSession(req, res, { events }).catch((error) => error.code))
      await streamEvents(await opening, [{ event: 'n' }])
    })
    const { port } = await serve(app)
    const client = await raw(port)
    await client.send(get('/first') + get('/second')).closed
    expect([outcomes, client.text.includes('event: n')]).toEqual([['ERR_STREAM_HEADERS_SENT'], true])
  })

  test('that is a HEAD does not wait', async () => {
    const app = express()
    const opened: boolean[] = []
    app.get('/first', () => {})
    app.get('/second', async (req, res) => {
      opened.push((await openSession(req, res, { events })).isConnected)
    })
    const { port } = await serve(app)
    const client = await raw(port)
    client.send(get('/first') + get('/second').replace('GET', 'HEAD'))
    await eventually(() => opened.length === 1)
    expect(opened).toEqual([false])
  })
})
