import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { createApp } from './app.js'
import { explainListenError, isLoopback, readListenAddress } from './listen-address.js'
import { usage } from './usage.js'

function serve(): void {
  const address = readListenAddress(process.env)
  const demo = createApp({ publicDir: fileURLToPath(new URL('public', import.meta.url)) })
  const server = createServer(demo.app)

  server.once('error', (error) => fail(explainListenError(error, address)))
  server.listen(address, () => {
    demo.start()
    const { port } = server.address() as AddressInfo
    console.log(usage(`http://localhost:${port}`))
    if (!isLoopback(address.host)) {
      console.warn(`HOST=${address.host}: whoever can reach this machine can now log in as anybody.`)
    }
  })

  const shutDown = () => {
    demo.stop()
    server.close()
    // Streams do not end by themselves, so close() alone would wait for ever.
    server.closeAllConnections()
  }
  process.once('SIGINT', shutDown)
  process.once('SIGTERM', shutDown)
}

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}

try {
  serve()
} catch (error) {
  // A setting that cannot work says so itself; where in the code that was noticed helps nobody.
  fail((error as Error).message)
}
