import { MemoryStore, type SlotStore } from 'express-sse-guard'
import { RedisStore } from 'express-sse-guard/redis'
import { get, open, type RawClient, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serveLimited } from './support/limited-server.js'
import { connectBoth } from './support/redis-clients.js'
import { describeWithRedis, RedisServer } from './support/redis-server.js'

/** Connections of one user that ask for a stream again as soon as they were refused, until they are stopped. */
class Attackers {
  #isStopped = false
  refusals = 0

  constructor(
    readonly port: number,
    readonly user: string,
    /** How many requests are sent at once, behind each other. */
    readonly pipelined = 1,
  ) {}

  async start(connections: number): Promise<void> {
    const clients = await Promise.all(Array.from({ length: connections }, () => raw(this.port)))
    for (const client of clients) this.#attack(client)
  }

  stop(): void {
    this.#isStopped = true
  }

  #attack(client: RawClient): void {
    const requests = get('/events', `user: ${this.user}`).repeat(this.pipelined)
    let seen = 0
    client.socket.on('data', () => {
      const answers = client.text.split('ERR_STREAM_').length - 1
      this.refusals += answers - seen
      seen = answers
      if (seen < this.pipelined || this.#isStopped) return
      seen = 0
      client.text = ''
      client.send(requests)
    })
    client.send(requests)
  }
}

/** Opens five streams of one user at once and leaves them, 20 times, and counts how many were admitted. */
async function admitted(visit: () => ReturnType<typeof open>, isClosed: () => boolean) {
  let count = 0
  for (let round = 0; round < 20; round += 1) {
    const clients = await Promise.all(Array.from({ length: 5 }, visit))
    count += clients.filter(({ status }) => status === 200).length
    for (const client of clients) client.close()
    await eventually(isClosed)
  }
  return count
}

function attacks(storeOf: () => SlotStore | undefined) {
  test.each([
    ['one attacker on 40 connections', 20, 1, 40, 1],
    ['one attacker on 100 connections', 50, 1, 100, 1],
    ['three attackers, who hold 15 of 20', 20, 3, 40, 1],
    ['one attacker who pipelines 600 requests on each of 4 connections', 1000, 1, 4, 600],
  ])(
    'another user is admitted 100 of 100 times beside %s',
    async (_, capacity, users, connections, pipelined) => {
      const { url, port, limit, visit } = await serveLimited({ capacity, limit: 5, store: storeOf() })
      const attackers: Attackers[] = []
      for (let user = 0; user < users; user += 1) {
        const name = `mallory-${user}`
        await Promise.all(Array.from({ length: 5 }, () => open(`${url}/events`, { headers: { user: name } })))
        attackers.push(new Attackers(port, name, pipelined))
      }
      expect(limit.open).toBe(5 * users)
      await Promise.all(attackers.map((attacker) => attacker.start(connections)))
      // Each connection has been refused and asks again: the attack is under way.
      await eventually(() => attackers.every(({ refusals }) => refusals > connections))
      const count = await admitted(
        () => visit('victim'),
        () => limit.open === 5 * users,
      )
      for (const attacker of attackers) attacker.stop()
      expect(count).toBe(100)
    },
    180_000,
  )

  test('200 simultaneous opens never pass the capacity, and leave no slot in the store', async () => {
    const store = storeOf() ?? new MemoryStore()
    const { limit, visit } = await serveLimited({ capacity: 20, limit: 2, store })
    const users = Array.from({ length: 200 }, (_, i) => `user-${i}`)
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, limit.open)
    })
    const clients = await Promise.all(users.map((user) => visit(user)))
    clearInterval(watch)
    most = Math.max(most, limit.open)
    expect([clients.filter(({ status }) => status === 200).length, most]).toEqual([20, 20])
    expect(clients.filter(({ status }) => status === 503)).toHaveLength(180)
    const counts = async () =>
      (await Promise.all(users.map((user) => store.count(user)))).reduce((a, b) => a + b)
    await eventually(async () => (await counts()) === 20)
    for (const client of clients) client.close()
    await eventually(async () => (await counts()) === 0)
  })
}

describe('capacity on a MemoryStore', () => {
  attacks(() => undefined)
})

describeWithRedis('capacity on a RedisStore', () => {
  let server: RedisServer
  let store: RedisStore

  beforeAll(async () => {
    server = await RedisServer.start()
    const { ioredis } = await connectBoth(server)
    store = new RedisStore({ sendCommand: ioredis.sendCommand, commandTimeoutMs: 10_000 })
  })
  attacks(() => store)
})

test('a request whose client leaves while it waits passes the close on to the next', async () => {
  const { port, visit, limit } = await serveLimited({ limit: 1 })
  for (let round = 0; round < 10; round += 1) {
    const holder = await visit()
    const gone = await raw(port)
    const clients = await Promise.all([raw(port), raw(port)])
    gone.send(get('/events', 'user: alice'))
    await new Promise((resolve) => setTimeout(resolve, 5))
    gone.destroy()
    const [next] = clients
    next.send(get('/events', 'user: alice'))
    await new Promise((resolve) => setTimeout(resolve, 5))
    holder.close()
    await eventually(() => next.text.startsWith('HTTP/1.1 '))
    expect(next.text).toMatch(/^HTTP\/1.1 200/)
    for (const client of clients) client.destroy()
    await eventually(() => limit.open === 0)
  }
})
