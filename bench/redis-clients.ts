import { Redis } from 'ioredis'
import { createClient } from 'redis'

/** Both clients as a user hands them to RedisStore, and as one would call them without it. */
export interface Client {
  name: string
  /** As the README tells users to write `sendCommand`. */
  sendCommand: (...command: string[]) => Promise<unknown>
  /** Sends a command that is ready, in the cheapest way this client has. */
  sendBare: (command: string[]) => Promise<unknown>
  close: () => void
}

export async function connectClients(port: number): Promise<Client[]> {
  return [
    await connectNodeRedis(port, 'node-redis', {}),
    // Its own time limit is an AbortSignal for each command, which costs several times the rest of the command.
    await connectNodeRedis(port, 'node-redis, timeout: 0', { timeout: 0 }),
    await connectIoredis(port),
  ]
}

async function connectNodeRedis(
  port: number,
  name: string,
  commandOptions: { timeout?: number },
): Promise<Client> {
  const client = createClient({ url: `redis://127.0.0.1:${port}`, commandOptions })
  client.on('error', fail)
  await client.connect()
  return {
    name,
    sendCommand: (...command) => client.sendCommand(command),
    sendBare: (command) => client.sendCommand(command),
    close: () => client.destroy(),
  }
}

async function connectIoredis(port: number): Promise<Client> {
  const client = new Redis(port, '127.0.0.1', { lazyConnect: true })
  client.on('error', fail)
  await client.connect()
  return {
    name: 'ioredis',
    sendCommand: (command, ...args) => client.call(command as string, ...args),
    sendBare: (command) => client.call(...(command as [string, ...string[]])),
    close: () => client.disconnect(),
  }
}

function fail(error: Error): never {
  throw error
}
