import express, { type Request } from 'express'
import {
  MemoryStore,
  openSession,
  type SlotStore,
  type StreamLimitOptions,
  type StreamResult,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { get, open, raw } from './support/clients.js'
import { deferred } from './support/deferred.js'
import { eventually } from './support/eventually.js'
import { FaultyStore } from './support/faulty-store.js'
import { events, serveLimited } from './support/limited-server.js'
import { serve } from './support/server.js'
import { never } from './support/sources.js'

async function start(leaseMs: number, options: Partial<StreamLimitOptions> = {}) {
  const store = new FaultyStore(leaseMs)
  const renewals = () => store.calls.filter((call) => call === 'renew').length
  return { store, renewals, ...(await serveLimited({ limit: 3, store, ...options })) }
}

/** Keeps the event loop busy, as a suspended process would be away. */
function block(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until) {}
}

describe('leases', () => {
  test('are renewed together, three times in the life of a lease', async () => {
    const { store, visit, renewals } = await start(300)
    const renewed: number[] = []
    const renew = store.renew.bind(store)
    store.renew = async (leases) => {
      renewed.push(leases.length)
      return renew(leases)
    }
    const from = performance.now()
    for (let i = 0; i < 3; i += 1) await visit()
    await visit('bob')
    await eventually(() => renewals() === 6)
    expect(performance.now() - from).toBeGreaterThan(5 * 100)
    expect(renewed.at(-1)).toBe(4)
  })

  test('are shown to the store as key and slot id, so that it may copy them to wherever it lives', async () => {
    const { store, visit } = await start(300)
    let shown: unknown
    const renew = store.renew.bind(store)
    store.renew = (leases) => {
      shown = structuredClone(leases)
      return renew(leases)
    }
    await visit()
    await eventually(() => shown !== undefined)
    expect(shown).toEqual([{ key: 'alice', slotId: store.asked[0] }])
  })

  test('have one timer, and none when there is no stream', async () => {
    const { store, limit, visit } = await start(333)
    const timers = jest.spyOn(globalThis, 'setInterval')
    const ofLeases = () =>
      timers.mock.calls.flatMap(([, ms], call) => (ms === 111 ? [timers.mock.results[call]?.value] : []))
    const clients = [await visit(), await visit('bob'), await visit()]
    expect(ofLeases()).toHaveLength(1)
    for (const client of clients) client.close()
    await eventually(() => limit.open === 0 && store.slots.size === 0)
    expect(ofLeases().map(({ _destroyed }) => _destroyed)).toEqual([true])
    timers.mockRestore()
  })

  test('of a store without leaseMs are not renewed', async () => {
    const renew = jest.fn()
    const timers = jest.spyOn(globalThis, 'setInterval')
    const store: SlotStore = Object.assign(new MemoryStore(), { renew })
    const { visit } = await start(300, { store })
    await visit()
    const until = performance.now() + 300
    await eventually(() => performance.now() > until)
    expect(renew).not.toHaveBeenCalled()
    expect(timers.mock.calls.filter(([, ms]) => Number.isNaN(ms) || ms === Infinity)).toEqual([])
    timers.mockRestore()
  })

  test.each(['evicted', 'kicked'] as const)(
    'that were %s end their stream, for that reason',
    async (state) => {
      const { store, limit, results, visit } = await start(300)
      const client = await visit()
      const other = await visit('bob')
      store.endedAs.set('alice', state)
      await client.over
      await eventually(() => results.length === 1)
      expect([results[0]?.endedBy, limit.open, other.response.closed]).toEqual([state, 1, false])
    },
  )

  test('that were ended are not released, renewed or put back, and leave room at once', async () => {
    const { store, limit, visit, renewals } = await start(300, { limit: 1 })
    const client = await visit()
    const released = store.calls.filter((call) => call === 'release').length
    store.endedAs.set('alice', 'kicked')
    store.slots = new MemoryStore()
    await client.over
    await eventually(() => limit.open === 0)
    store.endedAs.clear()
    expect((await visit()).status).toBe(200)
    const before = renewals()
    await eventually(() => renewals() > before)
    expect(store.slots.count('alice')).toBe(1)
    expect(store.calls.filter((call) => call === 'release')).toHaveLength(released)
  })

  test('that were ended leave room at once, also while their stream is still closing', async () => {
    const store = new FaultyStore(60_000)
    const limit = streamLimit({ keyGenerator: () => 'alice', limit: 1, store })
    const app = express()
    let turnsFull = 0
    app.get('/events', limit, async (req, res) => {
      const watch = setInterval(() => {
        turnsFull = res.writableLength > 100_000 ? turnsFull + 1 : 0
      })
      res.on('close', () => clearInterval(watch))
      const session = await openSession(req, res, { events })
      await streamEvents(session, function* () {
        for (;;) yield { event: 'hello', data: 'x'.repeat(100_000) }
      })
    })
    const { url, port } = await serve(app)
    const stalled = await raw(port)
    stalled.socket.pause()
    stalled.send(get('/events'))
    await eventually(() => turnsFull > 50)
    store.slots = new MemoryStore()
    store.notify(store.asked, 'kicked')
    const client = await open(`${url}/events`)
    expect([client.status, limit.open]).toEqual([200, 2])
  })

  test('that were ended destroy a response that no session has taken, also one in a queue', async () => {
    const { store, limit, url, port } = await start(300)
    const silent = open(`${url}/silent`, { headers: { user: 'alice' } })
    const pipelined = await raw(port)
    pipelined.send(get('/silent', 'user: alice') + get('/silent', 'user: bob'))
    await eventually(() => limit.open === 3)
    store.endedAs.set('bob', 'evicted')
    await pipelined.closed
    await eventually(() => limit.open === 1)
    store.endedAs.set('alice', 'kicked')
    await expect(silent).rejects.toThrow('socket hang up')
    await eventually(() => limit.open === 0)
  })

  test('that were ended before their session opens start no source', async () => {
    const store = new FaultyStore(300)
    const limit = streamLimit({ keyGenerator: () => 'alice', store })
    const results: StreamResult[] = []
    const source = jest.fn(() => [])
    const app = express()
    app.get('/events', limit, async (req, res) => {
      store.endedAs.set('alice', 'kicked')
      await eventually(() => res.closed)
      results.push(await streamEvents(await openSession(req, res, { events }), source))
    })
    const { url } = await serve(app)
    await expect(open(`${url}/events`)).rejects.toThrow('socket hang up')
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, source.mock.calls]).toEqual(['kicked', []])
  })

  test('that were ended twice before their session opens ended for the first reason', async () => {
    const store = new FaultyStore(60_000)
    const limit = streamLimit({ keyGenerator: () => 'alice', store })
    const results: StreamResult[] = []
    const app = express()
    app.get('/events', limit, async (req, res) => {
      store.notify(store.asked, 'evicted')
      store.notify(store.asked, 'kicked')
      results.push(await streamEvents(await openSession(req, res, { events }), []))
    })
    const { url } = await serve(app)
    await expect(open(`${url}/events`)).rejects.toThrow('socket hang up')
    await eventually(() => results.length === 1)
    expect(results[0]?.endedBy).toBe('evicted')
  })

  test('that were ended with middleware that fails at the end do not keep others from ending', async () => {
    const store = new FaultyStore(60_000)
    const limit = streamLimit({ keyGenerator: () => 'alice', store })
    const endings: unknown[] = []
    const app = express()
    app.get('/events', limit, async (req, res) => {
      if (req.get('failing')) {
        res.end = () => {
          throw new Error('cannot save the session')
        }
      }
      const session = await openSession(req, res, { events })
      await streamEvents(session, never).then(({ endedBy }) => endings.push(endedBy))
    })
    const { url } = await serve(app)
    await open(`${url}/events`, { headers: { failing: 'yes' } })
    await open(`${url}/events`)
    expect(() => store.notify(store.asked, 'kicked')).not.toThrow()
    await eventually(() => endings.length === 2)
    expect([endings, limit.isStoreDown]).toEqual([['kicked', 'kicked'], false])
  })

  test('end at once when the store gives notice', async () => {
    const { store, results, visit } = await start(60_000)
    const [first, second] = [await visit(), await visit()]
    store.notify(['unknown', store.asked[0] as string], 'evicted')
    await first.over
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, second.response.closed]).toEqual(['evicted', false])
    store.notify(store.asked, 'kicked')
    await eventually(() => results.length === 2)
    expect(results[1]?.endedBy).toBe('kicked')
  })

  test('end with the renewals when the store gives no notice, though it said that it would', async () => {
    const store = Object.assign(new FaultyStore(300), {
      watch: () => Promise.reject(new Error('no channel')),
    })
    const { results, visit } = await start(300, { store })
    const client = await visit()
    store.endedAs.set('alice', 'kicked')
    await client.over
    await eventually(() => results.length === 1)
    expect(results[0]?.endedBy).toBe('kicked')
  })

  test('that the store has lost are put back, even over the limit', async () => {
    const { store, results, visit } = await start(300)
    await visit()
    await visit()
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y', 'z']) store.slots.acquire('alice', slotId, 3)
    await eventually(() => store.slots.count('alice') === 5)
    expect([(await visit()).status, results]).toEqual([429, []])
  })

  test('that the store has lost are put back at once when a stream opens', async () => {
    const { store, visit } = await start(600_000)
    await visit()
    store.slots = new MemoryStore()
    await visit()
    await eventually(() => store.slots.count('alice') === 2)
  })

  test('never let a key past the limit in one process, whatever the store has forgotten', async () => {
    const { store, visit } = await start(600_000)
    const { promise: answered, resolve: answer } = deferred()
    await visit()
    store.slots = new MemoryStore()
    store.afterwards = () => answered
    const opening = Array.from({ length: 3 }, () => visit())
    await eventually(() => store.answering === 3)
    answer()
    const statuses = (await Promise.all(opening)).map(({ status }) => status).sort()
    expect(statuses).toEqual([200, 200, 429])
    await eventually(() => store.slots.count('alice') === 3 && store.answering === 0)
  })

  test('that are overdue, because the process was away, are taken again only where there is room', async () => {
    const { store, results, visit } = await start(300)
    const clients = [await visit(), await visit(), await visit()]
    store.slots = new MemoryStore()
    block(310)
    for (const slotId of ['x', 'y']) store.slots.acquire('alice', slotId, 3)
    await eventually(() => results.length === 2)
    expect(results.map(({ endedBy }) => endedBy)).toEqual(['evicted', 'evicted'])
    await clients[1]?.over
    await clients[2]?.over
    expect([clients[0]?.response.closed, store.slots.count('alice')]).toEqual([false, 3])
  })

  test('that are overdue keep that rule when the store fails in the middle of it', async () => {
    const { store, results, visit } = await start(300)
    jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    await visit()
    await visit()
    store.slots = new MemoryStore()
    store.fault = () => {
      throw new Error('reset')
    }
    block(310)
    for (const slotId of ['x', 'y']) store.slots.acquire('alice', slotId, 3)
    await eventually(() => store.calls.includes('count'))
    store.fault = undefined
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, store.slots.count('alice')]).toEqual(['evicted', 3])
    jest.restoreAllMocks()
  })

  test('that are overdue come before a stream that opens now', async () => {
    // The timer of the renewals cannot come first: it is the opening itself that blocks.
    const keyGenerator = (req: Request) => {
      if (req.get('busy')) block(310)
      return 'alice'
    }
    const { store, results, url, visit } = await start(300, { keyGenerator })
    const client = await visit()
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y']) store.slots.acquire('alice', slotId, 3)
    const late = await open(`${url}/events`, { headers: { busy: 'yes' } })
    expect([late.status, client.response.closed, results]).toEqual([429, false, []])
    expect(store.slots.count('alice')).toBe(3)
  })

  test('that are overdue keep that rule when a command that was on its way fails first', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const { store, results, visit } = await start(300)
    const clients = [await visit(), await visit()]
    let fail = () => {}
    store.fault = (method) =>
      method === 'count' ||
      new Promise((_, reject) => {
        fail = () => reject(new Error('reset'))
      })
    const opening = visit('bob')
    await eventually(() => store.answering === 1)
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y']) store.slots.acquire('alice', slotId, 3)
    block(310)
    fail()
    store.fault = undefined
    await clients[1]?.over
    expect([(await opening).status, clients[0]?.response.closed]).toEqual([200, false])
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, store.slots.count('alice')]).toEqual(['evicted', 3])
    warn.mockRestore()
  })

  test('that were granted before a long pause, and are read after it, keep to the limit', async () => {
    const { store, results, visit } = await start(300)
    let answer = () => {}
    store.afterwards = (method) =>
      method === 'acquire' &&
      new Promise<void>((resolve) => {
        answer = resolve
      })
    const opening = visit()
    await eventually(() => store.answering === 1)
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y', 'z']) store.slots.acquire('alice', slotId, 3)
    block(310)
    answer()
    store.afterwards = undefined
    const client = await opening
    await client.over
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, store.slots.count('alice')]).toEqual(['evicted', 3])
  })

  test('that are overdue stay so, whatever a renewal says that was on its way before', async () => {
    const { store, results, visit } = await start(300)
    await visit()
    let answer = () => {}
    store.afterwards = (method) =>
      method === 'renew' &&
      new Promise<void>((resolve) => {
        answer = resolve
      })
    await eventually(() => store.answering === 1)
    block(310)
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y', 'z']) store.slots.acquire('alice', slotId, 3)
    // Only once the timer has seen how late it is.
    await new Promise((resolve) => setTimeout(resolve))
    store.afterwards = undefined
    answer()
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, store.slots.count('alice')]).toEqual(['evicted', 3])
  })

  test('are not overdue because the store was slow to answer', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const { store, results, visit } = await start(300)
    const clients = [await visit(), await visit()]
    let fail = () => {}
    const hanging = new Promise<never>((_, reject) => {
      fail = () => reject(new Error('no answer'))
    })
    hanging.catch(() => {})
    store.fault = () => hanging
    await eventually(() => store.answering === 1)
    const until = performance.now() + 400
    await eventually(() => performance.now() > until)
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y', 'z']) store.slots.acquire('alice', slotId, 3)
    fail()
    store.fault = undefined
    await eventually(() => store.slots.count('alice') === 5)
    expect([results, clients[0]?.response.closed]).toEqual([[], false])
    warn.mockRestore()
  })

  test('that were overdue, and renewed all the same, are put back when they are lost later', async () => {
    const { store, results, visit, renewals } = await start(300)
    await visit()
    block(310)
    const before = renewals()
    await eventually(() => renewals() > before && store.answering === 0)
    store.slots = new MemoryStore()
    for (const slotId of ['x', 'y', 'z']) store.slots.acquire('alice', slotId, 3)
    await eventually(() => store.slots.count('alice') === 4)
    expect(results).toEqual([])
  })

  test('whose stream closes while they are put back are not left behind', async () => {
    const { store, limit, visit } = await start(300)
    const client = await visit()
    const other = await visit('bob')
    store.slots = new MemoryStore()
    // The release overtakes the acquire.
    store.fault = async (method) => {
      if (method !== 'acquire') return
      client.close()
      await eventually(() => store.calls.includes('release'))
    }
    await eventually(() => store.slots.count('bob') === 1 && store.answering === 0)
    expect([limit.open, store.slots.count('alice'), other.response.closed]).toEqual([1, 0, false])
  })

  test('are not asked for in the store by a user who is at the limit in this process', async () => {
    const { store, visit } = await start(60_000, { limit: 2 })
    await visit()
    await visit()
    const before = store.calls.length
    expect([(await visit()).status, (await visit()).status]).toEqual([429, 429])
    expect(store.calls).toHaveLength(before)
  })

  test('are put back after a renewal that the store answers with nonsense', async () => {
    const { store, visit } = await start(300)
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    await visit()
    store.slots = new MemoryStore()
    store.renew = async () => ['fine'] as never
    await eventually(() => warn.mock.calls.length === 1)
    expect(String(warn.mock.calls[0]?.[0])).toContain("something other than 'renewed', 'lost'")
    store.renew = FaultyStore.prototype.renew
    await eventually(() => store.slots.count('alice') === 1)
    warn.mockRestore()
  })
})
