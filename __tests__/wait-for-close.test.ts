import express from 'express'
import { streamLimit } from 'express-sse-guard'
import { get, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serveLimited } from './support/limited-server.js'
import { serve } from './support/server.js'

describe('a refusal waits for a close', () => {
  // Only the clock of the limiter stands still: the sockets and what waits for them go on. In a file without other timers, such
  // as those of a RedisStore, since the timers that there are say who waits.
  beforeEach(() => {
    jest.useFakeTimers({
      doNotFake: [
        'Date',
        'hrtime',
        'nextTick',
        'queueMicrotask',
        'setImmediate',
        'clearImmediate',
        'setInterval',
        'clearInterval',
      ],
    })
  })
  afterEach(() => {
    jest.useRealTimers()
  })

  const waiting = (count: number) => eventually(() => jest.getTimerCount() === count)

  /** A server whose streams stay silent, so that there is no timer but those of the requests that wait. */
  async function serveSilent(limit: number, onError: () => void = () => {}) {
    const served = await serveLimited({
      limit,
      handler: (_req, res, _next, error) => {
        onError()
        res.status(error.status).end(error.code)
      },
    })
    const ask = async () => {
      const client = await raw(served.port)
      return client.send(get('/silent', 'user: alice'))
    }
    const hold = async () => {
      const before = served.limit.open
      const client = await ask()
      await eventually(() => served.limit.open === before + 1)
      return client
    }
    return { ...served, ask, hold }
  }

  test('so that a client whose next request is ahead of the close of its stream is not refused', async () => {
    const { ask, hold, limit } = await serveSilent(1)
    let client = await hold()
    for (let reloads = 0; reloads < 20; reloads += 1) {
      const next = await ask()
      await waiting(1)
      // Longer than what reaches the process together takes, for which a few turns would do.
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      client.destroy()
      await waiting(0)
      await eventually(() => limit.open === 1)
      expect(next.text).toBe('')
      client = next
    }
  })

  test('of 50 ms, and no longer', async () => {
    const { ask, hold } = await serveSilent(1)
    await hold()
    const refused = await ask()
    await waiting(1)
    jest.advanceTimersByTime(49)
    expect([refused.text, jest.getTimerCount()]).toEqual(['', 1])
    jest.advanceTimersByTime(1)
    await eventually(() => refused.text.includes('429'))
    expect(jest.getTimerCount()).toBe(0)
  })

  test('and is none for the one who has waited longest, for each close', async () => {
    const { ask, hold, limit } = await serveSilent(2)
    const first = await hold()
    const second = await hold()
    const refused: number[] = []
    for (let i = 1; i <= 3; i += 1) {
      const client = await ask()
      client.socket.on('data', () => refused.push(i))
      await waiting(i)
    }
    first.destroy()
    second.destroy()
    await waiting(1)
    jest.advanceTimersByTime(50)
    await eventually(() => refused.length > 0)
    expect([refused, limit.open]).toEqual([[3], 2])
  })

  test('that ends at once when its client leaves, who takes no slot', async () => {
    const { ask, hold, limit } = await serveSilent(1)
    const holder = await hold()
    const leaving = await ask()
    await waiting(1)
    leaving.destroy()
    await waiting(0)
    holder.destroy()
    await eventually(() => limit.open === 0)
    expect(await limit.count('alice')).toBe(0)
  })

  test('which one who has left does not take from the next who waits', async () => {
    let refusals = 0
    const { ask, hold, limit } = await serveSilent(1, () => {
      refusals += 1
    })
    const holder = await hold()
    const leaving = await ask()
    await waiting(1)
    await ask()
    await waiting(2)
    // In one turn of the event loop, as when a page is reloaded twice.
    leaving.destroy()
    holder.destroy()
    await waiting(0)
    await eventually(() => limit.open === 1 || refusals > 0)
    expect([limit.open, refusals]).toEqual([1, 0])
  })

  test('which one whom other middleware answered meanwhile does not take from the next', async () => {
    const limit = streamLimit({ keyGenerator: () => 'alice', limit: 1 })
    const responses: express.Response[] = []
    const app = express()
    // Something else ends the response while the limiter waits, and its reader does not read: no 'close' follows.
    app.use((req, res, next) => {
      responses.push(res)
      if (req.get('stuck')) res.write('x'.repeat(16_000_000))
      next()
    })
    app.get('/', limit, () => {})
    const { port } = await serve(app)
    const holder = (await raw(port)).send(get('/'))
    await eventually(() => limit.open === 1)
    const answered = await raw(port)
    answered.socket.pause()
    answered.send(get('/', 'stuck: yes'))
    await waiting(1)
    await raw(port).then((client) => client.send(get('/')))
    await waiting(2)
    responses[1]?.end()
    expect(jest.getTimerCount()).toBe(2)
    holder.destroy()
    await waiting(0)
    await eventually(() => limit.open === 1)
  })
})
