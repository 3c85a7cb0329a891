import { MemoryStore } from 'express-sse-guard'
import { RedisStore, type RedisStoreOptions } from 'express-sse-guard/redis'
import { describeSlotStore } from 'express-sse-guard/testing'
import { Cluster, Redis } from 'ioredis'
import { createClient, createCluster } from 'redis'
import { describeWithRedis, RedisServer, startCluster } from './support/redis-server.js'

describeSlotStore('MemoryStore', () => new MemoryStore())

/** How a store reaches Redis, and how that is closed. */
interface Connection {
  send: Pick<RedisStoreOptions, 'sendCommand' | 'sendCommandCluster'>
  close(): unknown
}

// A client without a listener for errors would end the process; what fails here fails in a command too.
const ignore = () => {}

describeWithRedis('on one Redis', () => {
  let server: RedisServer

  beforeAll(async () => {
    server = await RedisServer.start()
  })

  describeRedisStore('through node-redis', async () => {
    const client = await createClient({ url: server.url }).on('error', ignore).connect()
    return { send: { sendCommand: (...command) => client.sendCommand(command) }, close: () => client.close() }
  })

  describeRedisStore('through ioredis', async () => {
    const client = new Redis(server.port, '127.0.0.1').on('error', ignore)
    return {
      send: { sendCommand: (command, ...args) => client.call(command as string, ...args) },
      close: () => client.quit(),
    }
  })
})

describeWithRedis('on a cluster of three masters', () => {
  let nodes: RedisServer[]

  beforeAll(async () => {
    nodes = await startCluster()
  }, 120_000)

  describeRedisStore('through node-redis', async () => {
    const cluster = createCluster({ rootNodes: nodes.map(({ url }) => ({ url })) }).on('error', ignore)
    await cluster.connect()
    return {
      send: {
        sendCommandCluster: ({ key, isReadOnly, command }) => cluster.sendCommand(key, isReadOnly, command),
      },
      close: () => cluster.close(),
    }
  })

  describeRedisStore('through ioredis', async () => {
    const cluster = new Cluster(nodes.map(({ port }) => ({ host: '127.0.0.1', port }))).on('error', ignore)
    return {
      send: { sendCommand: (command, ...args) => cluster.call(command as string, ...args) },
      close: () => cluster.quit(),
    }
  })
})

/** Runs the suite over two stores that share nothing but Redis: each has a connection of its own. */
function describeRedisStore(name: string, connect: () => Promise<Connection>): void {
  let connections: Connection[]
  let made = 0

  describe(name, () => {
    beforeAll(async () => {
      connections = await Promise.all([connect(), connect()])
    })

    afterAll(async () => {
      await Promise.all(connections.map((connection) => connection.close()))
    })

    describeSlotStore('RedisStore', () => {
      made += 1
      // One Redis serves all tests, each under a prefix of its own.
      const options = { prefix: `test-${made}:`, leaseMs: 400, commandTimeoutMs: 10_000 }
      const [store, peer] = connections.map(({ send }) => new RedisStore({ ...send, ...options }))
      return { store: store as RedisStore, peer }
    })
  })
}
