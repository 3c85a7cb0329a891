import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createApp } from './app.js'
import { explainListenError, isLoopback, readListenAddress } from './listen-address.js'
import { usage } from './usage.js'

async function serve(): Promise<void> {
  const address = readListenAddress(process.env)
  const shared = await connectToRedis(process.env)
  const publicDir = fileURLToPath(new URL('public', import.meta.url))
  const demo = createApp({ publicDir, store: shared?.store })
  const server = createServer(demo.app)

  server.once('error', (error) => {
    fail(explainListenError(error, address))
    shared?.close()
  })
  server.listen(address, () => {
    demo.start()
    const { port } = server.address() as AddressInfo
    console.log(usage(`http://localhost:${port}`))
    if (!isLoopback(address.host)) {
      console.warn(`HOST=${address.host}: whoever can reach this machine can now log in as anybody.`)
    }
  })

  const shutDown = async () => {
    demo.stop()
    server.close()
    // Streams do not end by themselves, so close() alone would wait for ever.
    server.closeAllConnections()
    // Each stream gives its slot back as it closes, and until then Redis is needed.
    while (demo.open > 0) await setImmediate()
    await shared?.close()
  }
  process.once('SIGINT', shutDown)
  process.once('SIGTERM', shutDown)
}

/** Without REDIS_URL nothing of Redis is even loaded. */
async function connectToRedis({ REDIS_URL }: NodeJS.ProcessEnv) {
  if (REDIS_URL === undefined) return undefined
  const { shareSlots } = await import('./shared-slots.js')
  return shareSlots(REDIS_URL)
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}

try {
  await serve()
} catch (error) {
  // A setting that cannot work says so itself; where in the code that was noticed helps nobody.
  fail((error as Error).message)
}
