import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { RedisStore } from 'express-sse-guard/redis'
import { createClient } from 'redis'

/** How long the start waits for Redis, and the end for its last answers. */
const PATIENCE_MS = 1000

/**
 * Shares the slots with all processes on the same Redis. One that is away stops nothing: the client goes on looking
 * for it, and the limiter counts in this process meanwhile. The console is told of each change, once.
 *
 * @throws Error that quotes a URL that cannot work, without its password.
 */
export async function shareSlots(url: string) {
  const client = clientFor(url)
  const shown = withoutPassword(url)
  let wasReady: boolean | undefined
  client.on('ready', () => {
    wasReady = true
    console.log(`The cap is shared with all demos on ${shown}`)
  })
  // It comes with each attempt to connect, and with nobody to listen it would end the process.
  client.on('error', (error: NodeJS.ErrnoException) => {
    if (wasReady === false) return
    wasReady = false
    // An error for several addresses has a code and no message.
    const why = error.message || error.code
    console.warn(`No Redis on ${shown} (${why}): until it is there, this process counts for itself.`)
  })
  // Settles when the client is closed. What went wrong meanwhile came as an 'error'.
  client.connect().catch(() => {})
  await once(client, 'ready', { signal: AbortSignal.timeout(PATIENCE_MS) }).catch(() => {
    if (wasReady === undefined) client.emit('error', new Error('it does not answer'))
  })

  let unanswered = 0
  const sendCommand = async (...command: string[]) => {
    unanswered += 1
    return client.sendCommand(command).finally(() => {
      unanswered -= 1
    })
  }

  return {
    store: new RedisStore({ sendCommand }),
    async close(): Promise<void> {
      // Slots that were just given back are still on their way. The client's own close() waits too, but not for a
      // command that the store sends once more because Redis did not know its script.
      const giveUpAt = performance.now() + PATIENCE_MS
      while (unanswered > 0 && performance.now() < giveUpAt) await setTimeout(5)
      client.destroy()
    },
  }
}

function clientFor(url: string) {
  try {
    // The client would take an empty one for localhost, and knows others that the demo does not speak of.
    if (!/^rediss?:\/\//i.test(url)) throw new TypeError('not a URL of Redis')
    return createClient({
      url,
      // The limiter does not wait for a Redis that is away, so a command that waits would come when nobody wants it.
      disableOfflineQueue: true,
      // Neither can be cut short, so the process ends no sooner after Ctrl-C.
      socket: { reconnectStrategy: 250, connectTimeout: PATIENCE_MS },
    })
  } catch {
    throw new Error(
      `REDIS_URL is '${withoutPassword(url)}'; give redis://host:port or rediss://host:port, ` +
        'such as REDIS_URL=redis://127.0.0.1:6379, or unset it',
    )
  }
}

/**
 * Leaves out all that may be a password: what stands before the last @, after a ?, or after a colon and is no port
 * and no IPv6 address.
 */
function withoutPassword(url: string): string {
  return url
    .replace(/^([a-z]+:\/\/)?.*@/is, '$1***@')
    .replace(/(:(?!\/\/|\d+(?:[/?]|$)|[\da-f:]*\])|\?).*/is, '$1***')
}
