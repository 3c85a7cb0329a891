import { MemoryStore, type StreamLimitOptions } from 'express-sse-guard'
import { RedisStore } from 'express-sse-guard/redis'
import supertest from 'supertest'
import { deferred } from './support/deferred.js'
import { eventually } from './support/eventually.js'
import { FaultyStore } from './support/faulty-store.js'
import { serveLimited } from './support/limited-server.js'

const LEASE_MS = 600

async function start(options: Partial<StreamLimitOptions> = {}) {
  const store = new FaultyStore(LEASE_MS)
  return { store, ...(await serveLimited({ limit: 3, store, ...options })) }
}

const away = () => {
  throw new Error('away')
}

let warnings: string[]
let warn: jest.SpyInstance

beforeEach(() => {
  warnings = []
  warn = jest.spyOn(process, 'emitWarning').mockImplementation((warning) => {
    warnings.push(String(warning))
  })
})

afterEach(() => warn.mockRestore())

describe('while the store is away', () => {
  test('a process counts for itself by default, up to the limit, and warns once', async () => {
    const { store, limit, visit } = await start()
    await visit()
    store.fault = away
    const statuses = []
    for (let i = 0; i < 6; i += 1) statuses.push((await visit()).status)
    expect(statuses).toEqual([200, 200, 429, 429, 429, 429])
    expect((await visit('bob')).status).toBe(200)
    expect([await limit.count('alice'), await limit.count('bob'), limit.open]).toEqual([3, 1, 4])
    expect(warnings).toEqual([
      'The slot store failed: away. Until it is back, this process counts for itself, against the same limit. (policy "sse")',
    ])
  })

  test('simultaneous opens cannot pass the limit together, whenever their answers fail', async () => {
    const { store, visit } = await start()
    let fail = () => {}
    const failed = new Promise<never>((_, reject) => {
      fail = () => reject(new Error('away'))
    })
    failed.catch(() => {})
    store.fault = () => failed
    const opening = Array.from({ length: 10 }, () => visit())
    await eventually(() => store.answering === 10)
    fail()
    const statuses = (await Promise.all(opening)).map(({ status }) => status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(3)
    expect(warnings).toHaveLength(1)
  })

  test('a grant that arrives late does not pass the limit either', async () => {
    const { store, limit, visit } = await start()
    const { promise: answered, resolve: answer } = deferred()
    store.afterwards = () => answered
    const late = visit()
    await eventually(() => store.answering === 1)
    store.fault = away
    for (let i = 0; i < 3; i += 1) expect((await visit()).status).toBe(200)
    answer()
    expect((await late).status).toBe(429)
    expect(limit.open).toBe(3)
    store.fault = undefined
    await eventually(() => store.slots.count('alice') === 3)
  })

  test("with 'allow' every stream is let through, up to the capacity", async () => {
    const { store, limit, visit } = await start({ whenStoreDown: 'allow', capacity: 5 })
    store.fault = away
    const statuses = []
    for (let i = 0; i < 6; i += 1) statuses.push((await visit()).status)
    expect(statuses).toEqual([200, 200, 200, 200, 200, 503])
    store.fault = undefined
    await eventually(() => store.slots.count('alice') === 5)
    expect([limit.open, (await visit()).status]).toEqual([5, 503])
  })

  test("with 'refuse' new streams are refused with 503, and open ones stay", async () => {
    const { app, store, limit, visit } = await start({ whenStoreDown: 'refuse' })
    const client = await visit()
    store.fault = away
    for (let i = 0; i < 2; i += 1) {
      const { status, body } = await supertest(app).get('/events').set('user', 'alice')
      expect([status, body.code]).toEqual([503, 'ERR_STREAM_STORE'])
    }
    expect([limit.open, client.response.closed]).toEqual([1, false])
    expect(limit.isStoreDown).toBe(true)
    store.fault = undefined
    await eventually(() => !limit.isStoreDown)
    expect([(await visit()).status, store.slots.count('alice')]).toEqual([200, 2])
  })

  test('nothing but one probe at a time is sent to it, however much happens', async () => {
    const { store, visit } = await start()
    const clients = [await visit(), await visit()]
    store.fault = away
    await visit()
    store.calls.length = 0
    let most = 0
    store.fault = () => {
      most = Math.max(most, store.answering)
      throw new Error('away')
    }
    await eventually(async () => {
      clients.pop()?.close()
      ;(await visit()).close()
      return store.calls.length >= 4
    })
    expect([new Set(store.calls), most]).toEqual([new Set(['count']), 1])
  })

  test('a count that fails is one of this process, and finds out that the store is away', async () => {
    const { store, limit, visit } = await start()
    await visit()
    store.fault = away
    expect([await limit.count('alice'), await limit.count('bob')]).toEqual([1, 0])
    expect([warnings.length, (await visit()).status]).toEqual([1, 200])
  })

  test('a count is not sent to it', async () => {
    const { store, limit, visit } = await start()
    store.fault = away
    await visit()
    store.fault = () => new Promise(() => {})
    expect([await limit.count('alice'), await limit.count('bob')]).toEqual([1, 0])
  })

  test('a stream is not kept waiting by a renewal that it does not answer', async () => {
    const { store, limit, visit } = await start()
    await visit()
    store.fault = (method) => (method === 'renew' ? new Promise(() => {}) : away())
    const until = performance.now() + LEASE_MS + 10
    // As a suspended process: the renewals are overdue.
    while (performance.now() < until) {}
    await eventually(() => store.calls.includes('renew'))
    await limit.count('alice')
    expect([limit.isStoreDown, (await visit()).status]).toEqual([true, 200])
  })

  test('a grant that arrives late makes no renewal', async () => {
    const { store, limit, visit } = await start()
    await visit()
    store.slots = new MemoryStore()
    let answer = () => {}
    store.afterwards = () =>
      new Promise<void>((resolve) => {
        answer = resolve
      })
    const late = visit()
    await eventually(() => store.answering === 1)
    store.fault = away
    await limit.count('alice')
    store.calls.length = 0
    store.afterwards = undefined
    answer()
    expect([(await late).status, limit.isStoreDown]).toEqual([200, true])
    expect(store.calls).not.toContain('renew')
  })

  test('a stream is not cut, however many leases that takes', async () => {
    const { store, results, visit } = await start()
    const client = await visit()
    store.fault = away
    await visit()
    const until = performance.now() + 3 * LEASE_MS
    await eventually(() => performance.now() > until)
    expect([client.response.closed, results]).toEqual([false, []])
  })

  test('a store that hangs is one that is away, after commandTimeoutMs', async () => {
    let sent = 0
    const store = new RedisStore({
      sendCommand: () => {
        sent += 1
        return new Promise(() => {})
      },
      commandTimeoutMs: 120,
    })
    const { visit } = await start({ store })
    const from = performance.now()
    const [first, second] = await Promise.all([visit(), visit()])
    expect(performance.now() - from).toBeLessThan(120 + 500)
    expect([first.status, second.status]).toEqual([200, 200])
    const before = sent
    const again = performance.now()
    expect((await visit()).status).toBe(200)
    expect((await visit()).status).toBe(429)
    expect(performance.now() - again).toBeLessThan(120)
    expect(sent - before).toBeLessThanOrEqual(1)
    await eventually(() => warnings.length > 0)
    expect(warnings[0]).toMatch(/^The slot store failed: Redis did not answer within 120 ms\./)
  })
})

describe('when the store is back', () => {
  test('it learns of every stream that is open, and of those that closed meanwhile', async () => {
    const { store, limit, visit } = await start({ limit: 10 })
    const before = [await visit(), await visit(), await visit()]
    store.fault = away
    const during = [await visit(), await visit(), await visit()]
    before.pop()?.close()
    during.pop()?.close()
    await eventually(() => limit.open === 4)
    expect(store.slots.count('alice')).toBe(3)
    store.fault = undefined
    await eventually(() => store.slots.count('alice') === 4)
    for (const client of [...before, ...during]) client.close()
    await eventually(() => limit.open === 0 && store.slots.size === 0)
    expect(warnings).toHaveLength(1)
  })

  test('it learns also of the stream whose release has found out that it was away', async () => {
    const { store, limit, visit } = await start()
    const client = await visit()
    store.fault = away
    client.close()
    await eventually(() => limit.isStoreDown)
    store.fault = undefined
    await eventually(() => !limit.isStoreDown)
    await eventually(() => store.slots.size === 0)
  })

  test('it learns also of a stream that closes while it is told of the others', async () => {
    const { store, limit, visit } = await start()
    const client = await visit()
    store.fault = away
    await visit('bob')
    store.fault = async (method) => {
      if (method !== 'acquire') return
      client.close()
      await eventually(() => limit.open === 1)
    }
    await eventually(() => store.slots.count('bob') === 1)
    await eventually(() => store.slots.count('alice') === 0)
    // Once, and not again after the next failure.
    store.calls.length = 0
    store.fault = away
    await limit.count('bob')
    store.fault = undefined
    await eventually(() => !limit.isStoreDown)
    expect(store.calls).not.toContain('release')
  })

  test('it is looked for with any key that has a stream, since it may be away for some of them only', async () => {
    const store = new FaultyStore(60)
    const { visit } = await serveLimited({ store })
    for (const user of ['alice', 'bob']) await visit(user)
    const asked = new Set<string | undefined>()
    store.fault = (method, key) => {
      if (method === 'count') asked.add(key)
      throw new Error('away')
    }
    await visit('carol')
    await eventually(() => asked.has('alice') && asked.has('bob'))
  })

  test('it is not told to renew nothing', async () => {
    const { store, limit, visit } = await start()
    store.fault = away
    const client = await visit()
    await visit('bob')
    client.close()
    await eventually(() => limit.open === 1)
    store.fault = undefined
    await eventually(() => !limit.isStoreDown)
    expect([store.calls.includes('renew'), store.slots.count('bob')]).toEqual([false, 1])
  })

  test('a slot that it has after all, though its answer was lost, is renewed and not asked for again', async () => {
    const store = new FaultyStore(60_000)
    const { limit, visit } = await serveLimited({ store })
    store.afterwards = away
    await visit()
    store.afterwards = undefined
    await eventually(() => !limit.isStoreDown)
    expect([store.calls.filter((call) => call === 'renew'), store.asked.length]).toEqual([['renew'], 1])
  })

  test('it is told of many streams a hundred at a time', async () => {
    const { store, limit, visit } = await start({ limit: Infinity })
    const closing = await Promise.all(Array.from({ length: 150 }, () => visit()))
    store.fault = away
    await Promise.all(Array.from({ length: 150 }, (_, i) => visit(`user-${i}`)))
    for (const client of closing) client.close()
    await eventually(() => limit.open === 150)
    const most = { release: 0, acquire: 0 }
    store.fault = async (method) => {
      if (method !== 'release' && method !== 'acquire') return
      most[method] = Math.max(most[method], store.answering)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await eventually(() => !limit.isStoreDown)
    await eventually(() => store.slots.size === 150)
    // More than one, or they would come one after the other.
    for (const count of Object.values(most)) expect([count > 1, count <= 100]).toEqual([true, true])
  })

  test('also when it has lost everything, and nobody is let in over the cap', async () => {
    const { store, limit, results, visit } = await start()
    const clients = [await visit(), await visit()]
    store.fault = away
    clients.push(await visit())
    store.slots = new MemoryStore()
    // Another process was faster.
    for (const slotId of ['x', 'y']) store.slots.acquire('alice', slotId, 3)
    store.fault = undefined
    await eventually(() => store.slots.count('alice') === 5)
    expect([(await visit()).status, results]).toEqual([429, []])
    clients[0]?.close()
    clients[1]?.close()
    await eventually(() => store.slots.count('alice') === 3)
    expect((await visit()).status).toBe(429)
    clients[2]?.close()
    await eventually(() => limit.open === 0 && store.slots.count('alice') === 2)
    expect((await visit()).status).toBe(200)
  })

  test('it is back, though streams come and go all the time', async () => {
    const { store, visit } = await start({ limit: Infinity })
    for (let i = 0; i < 5; i += 1) await visit()
    store.fault = away
    const clients = [await visit()]
    // Each answer comes after yet another stream has opened and one has closed.
    store.fault = async (method) => {
      if (method === 'acquire') return
      clients.push(await visit())
      clients.shift()?.close()
    }
    const renewals = () => store.calls.filter((call) => call === 'renew').length
    const before = renewals()
    await eventually(async () => {
      const asked = store.asked.length
      ;(await visit()).close()
      return store.asked.length > asked
    })
    expect(renewals() - before).toBeLessThan(10)
    store.fault = undefined
  })

  test('a stream that opens while it is told of the others is told right after them', async () => {
    const store = new FaultyStore(60_000)
    const { limit, visit } = await serveLimited({ store })
    await visit()
    store.fault = away
    await visit()
    let opened = false
    store.fault = async (method) => {
      if (method !== 'acquire' || opened) return
      opened = true
      await visit('bob')
    }
    await eventually(() => store.slots.count('bob') === 1)
    expect([store.slots.count('alice'), limit.isStoreDown]).toEqual([2, false])
  })

  test('a slot that was refused is released also if its acquire happens only then, after any number of leases', async () => {
    const { store, limit, visit } = await start({ whenStoreDown: 'refuse' })
    store.fault = away
    expect((await visit()).status).toBe(503)
    const until = performance.now() + LEASE_MS + 50
    await eventually(() => performance.now() > until)
    // The client had it in a queue.
    store.slots.acquire('alice', store.asked[0] as string, 3)
    store.fault = undefined
    await eventually(() => !limit.isStoreDown && store.answering === 0)
    expect(store.slots.size).toBe(0)
  })

  test('it is not told of streams that closed so long ago that it has forgotten them', async () => {
    const { store, limit, visit } = await start()
    const clients = [await visit(), await visit()]
    store.fault = away
    await visit('bob')
    for (const client of clients) client.close()
    await eventually(() => limit.open === 1)
    const until = performance.now() + LEASE_MS + 50
    await eventually(() => performance.now() > until)
    store.slots = new MemoryStore()
    store.fault = undefined
    await eventually(() => store.slots.count('bob') === 1)
    expect(store.calls.filter((call) => call === 'release')).toEqual([])
  })

  test('a stream whose acquire was answered by nobody, and that was kicked meanwhile, ends', async () => {
    const { store, results, visit } = await start()
    store.afterwards = away
    await visit()
    store.afterwards = undefined
    store.slots = new MemoryStore()
    store.endedAs.set('alice', 'kicked')
    await eventually(() => results.length === 1)
    expect([results[0]?.endedBy, store.slots.size]).toEqual(['kicked', 0])
  })

  test('what it still has is kept alive while a part of it is away', async () => {
    const { store, visit } = await start()
    await visit('alice')
    store.fault = (method, key) => {
      if (key === 'bob') throw new Error(`the node of bob is away: ${method}`)
    }
    await visit('bob')
    const renewals = () => store.calls.filter((call) => call === 'renew').length
    const before = renewals()
    await eventually(() => renewals() > before + 2)
    store.fault = undefined
    await eventually(() => store.slots.count('bob') === 1)
  })

  test('one that answers the probes and nothing else is warned of once, and asked ever less often', async () => {
    const store = new FaultyStore(60_000)
    const { visit } = await serveLimited({ store })
    store.fault = (method) => method === 'acquire' && away()
    const until = performance.now() + 1600
    await eventually(async () => {
      ;(await visit()).close()
      return performance.now() > until
    })
    expect(warnings.filter((text) => text.includes('store failed'))).toHaveLength(1)
    // After 100, 200, 400 and 800 ms, and not sixteen times.
    expect(store.asked.length).toBeLessThan(8)
  })

  test('its leases are renewed again', async () => {
    const { store, visit } = await start()
    await visit()
    store.fault = away
    await visit()
    store.fault = undefined
    await eventually(() => store.slots.count('alice') === 2)
    const renewals = () => store.calls.filter((call) => call === 'renew').length
    const before = renewals()
    await eventually(() => renewals() === before + 3)
  })

  test('a slot whose acquire happened, though its answer was lost, is not counted twice', async () => {
    const { store, limit, visit } = await start()
    store.afterwards = away
    const client = await visit()
    expect([client.status, store.slots.count('alice')]).toEqual([200, 1])
    store.afterwards = undefined
    await eventually(() => store.calls.includes('renew') && store.answering === 0)
    expect([store.slots.count('alice'), limit.open]).toEqual([1, 1])
    client.close()
    await eventually(() => store.slots.size === 0)
  })

  test.each([
    ['was refused with 503', { whenStoreDown: 'refuse' }, [503, 503]],
    ['was refused by the count of this process', { limit: 2 }, [200, 429]],
  ] as const)('a slot whose acquire happened is released if its stream %s', async (_, options, expected) => {
    const { store, limit, visit } = await start(options)
    const held = await visit()
    const { promise: answered, resolve: answer } = deferred()
    store.afterwards = async () => {
      await answered
      throw new Error('away')
    }
    const opening = [visit(), visit()]
    await eventually(() => store.answering === 2)
    answer()
    const statuses = (await Promise.all(opening)).map(({ status }) => status).sort()
    expect(statuses).toEqual(expected)
    store.afterwards = undefined
    await eventually(() => store.slots.count('alice') === limit.open && store.answering === 0)
    held.close()
    await eventually(() => store.slots.count('alice') === limit.open)
  })

  test('a stream that closes while it is being put back is not left behind', async () => {
    const { store, limit, visit } = await start()
    const client = await visit()
    store.fault = away
    await visit('bob')
    store.slots = new MemoryStore()
    store.fault = async (method) => {
      if (method !== 'acquire') return
      client.close()
      await eventually(() => limit.open === 1)
    }
    await eventually(() => store.slots.count('bob') === 1 && store.answering === 0)
    expect(store.slots.count('alice')).toBe(0)
  })

  test('a store without leases is brought up to date as well', async () => {
    const { leaseMs: _, renew: __, ...without } = fieldsOf(new FaultyStore(LEASE_MS))
    const { limit, visit } = await start({ store: without })
    await visit()
    without.store.fault = away
    await visit()
    without.store.fault = undefined
    await eventually(() => without.store.slots.count('alice') === 2)
    expect([limit.open, (await visit()).status, (await visit()).status]).toEqual([2, 200, 429])
  })

  function fieldsOf(store: FaultyStore) {
    return {
      store,
      leaseMs: store.leaseMs,
      acquire: store.acquire.bind(store),
      release: store.release.bind(store),
      count: store.count.bind(store),
      renew: store.renew.bind(store),
    }
  }

  test('it is looked for ever less often, and at least three times a lease', async () => {
    const { store, limit, visit } = await start()
    const asked: number[] = []
    store.fault = (method) => {
      // Not those that found out whether it is down.
      if (method === 'count' && limit.isStoreDown) asked.push(performance.now())
      throw new Error('away')
    }
    await visit()
    await eventually(() => limit.isStoreDown)
    const from = performance.now()
    await eventually(() => asked.length === 5)
    const waits = asked.map((at, index) => at - (asked[index - 1] ?? from))
    expect(waits[0]).toBeGreaterThan(90)
    for (const wait of waits.slice(1)) expect(wait).toBeGreaterThan(LEASE_MS / 3 - 10)
    expect(waits.at(-1)).toBeLessThan(LEASE_MS / 3 + 150)
  })
})
