import type { SendCommand } from 'express-sse-guard/redis'
import { Redis } from 'ioredis'
import { createClient } from 'redis'

/** A connection to one Redis, whichever the client. */
export interface TestClient {
  sendCommand: SendCommand
  subscribe(channel: string, onMessage: (message: string) => void): Promise<unknown>
}

const closing: (() => unknown)[] = []

afterAll(async () => {
  for (const close of closing.splice(0)) await close()
})

/** Connects with both clients. They are closed after the tests. */
export async function connectBoth({
  url,
}: {
  url: string
}): Promise<Record<'node-redis' | 'ioredis', TestClient>> {
  const client = createClient({ url, socket: { reconnectStrategy: 20 } })
  const redis = new Redis(url, { retryStrategy: () => 20 })
  for (const each of [client, redis]) each.on('error', () => {})
  const subscribers = [client.duplicate(), redis.duplicate()] as const
  for (const each of subscribers) each.on('error', () => {})
  await client.connect()
  await subscribers[0].connect()
  closing.push(
    () => client.destroy(),
    () => subscribers[0].destroy(),
    () => redis.disconnect(),
    () => subscribers[1].disconnect(),
  )
  return {
    'node-redis': {
      sendCommand: (...command) => client.sendCommand(command),
      subscribe: (channel, onMessage) => subscribers[0].subscribe(channel, onMessage),
    },
    ioredis: {
      sendCommand: (command, ...args) => redis.call(command as string, ...args),
      subscribe: (channel, onMessage) => {
        subscribers[1].on('message', (_channel, message) => onMessage(message))
        return subscribers[1].subscribe(channel)
      },
    },
  }
}
