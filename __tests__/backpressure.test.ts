import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import express from 'express'
import { defineEvents, openSession, type StreamResult, streamEvents, streamLimit } from 'express-sse-guard'
import { generate } from 'selfsigned'
import { get, open, raw } from './support/clients.js'
import { heapAfterCollection } from './support/collect-garbage.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'
import { never } from './support/sources.js'

const events = defineEvents({ n: true })
const MB = 1024 * 1024
/** What a slow reader reads at a time. */
const STEP = 300_000

/** An app that streams `source` to each client, with the given stall timeout. */
async function stream(source: () => Iterable<{ event: string; data: unknown }>, stallTimeoutMs: number) {
  const app = express()
  const limit = streamLimit({ keyGenerator: () => 'alice' })
  const results: StreamResult[] = []
  app.get('/', limit, async (req, res) => {
    const session = await openSession(req, res, { events, stallTimeoutMs, keepAlive: 10 })
    results.push(await streamEvents(session, source()))
  })
  return { app, limit, results }
}

test('a reader that stops reading a million events of 1 KB costs at most 1 MB, and 10 MB of heap', async () => {
  const app = express()
  let pulledBytes = 0
  let mostWaiting = 0
  let waiting = () => 0
  const results: StreamResult[] = []
  app.get('/', async (req, res) => {
    const session = await openSession(req, res, { events, keepAlive: null })
    // What was pulled and has not gone to the kernel: by the handle's count, as bytesWritten includes the queue.
    waiting = () => {
      const { _handle: handle } = req.socket as never as {
        _handle: { bytesWritten: number; writeQueueSize: number }
      }
      return pulledBytes - (handle.bytesWritten - handle.writeQueueSize)
    }
    const event = { event: 'n', data: 'x'.repeat(1000) }
    const frameBytes = `event: n\ndata: ${JSON.stringify(event.data)}\n\n`.length
    results.push(
      await streamEvents(session, function* () {
        for (let i = 0; i < 1e6; i++) {
          mostWaiting = Math.max(mostWaiting, waiting())
          pulledBytes += frameBytes
          yield event
        }
      }),
    )
  })
  const { port } = await serve(app)
  const baseline = heapAfterCollection()
  const client = await raw(port)
  client.socket.pause()
  client.send(get('/'))
  // The kernel has taken what it will when a hundred turns of the loop bring nothing more.
  let before = -1
  for (let quiet = 0; quiet < 100; quiet = pulledBytes === before && pulledBytes > 0 ? quiet + 1 : 0) {
    before = pulledBytes
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(pulledBytes).toBeLessThan(20 * MB)
  expect(Math.max(mostWaiting, waiting())).toBeLessThan(MB)
  expect(heapAfterCollection() - baseline).toBeLessThan(10 * MB)
  client.destroy()
  await eventually(() => results.length === 1)
  expect(results[0]?.endedBy).toBe('client')
})

test('a reader that accepts no byte is cut after stallTimeoutMs, and its slot comes back', async () => {
  const { app, limit, results } = await stream(
    () => Array(200).fill({ event: 'n', data: 'x'.repeat(MB) }),
    200,
  )
  const { port } = await serve(app)
  const client = await raw(port)
  client.socket.pause()
  const began = performance.now()
  client.send(get('/'))
  await eventually(() => results.length === 1)
  expect(results[0]?.endedBy).toBe('stalled')
  expect(performance.now() - began).toBeGreaterThanOrEqual(190)
  expect([limit.open, await limit.count('alice')]).toEqual([0, 0])
})

test('keep-alive comments to a reader that has stopped do not pass for progress', async () => {
  const { app, results } = await stream(function* () {
    yield { event: 'n', data: 'x'.repeat(20 * MB) }
  }, 200)
  const { port } = await serve(app)
  const client = await raw(port)
  client.socket.pause()
  client.send(get('/'))
  await eventually(() => results.length === 1)
  expect(results[0]?.endedBy).toBe('stalled')
})

test('a reader that stops after the end of the response is cut as well', async () => {
  const { app, limit, results } = await stream(() => [{ event: 'n', data: 'x'.repeat(20 * MB) }], 200)
  const { port } = await serve(app)
  const client = await raw(port)
  client.socket.pause()
  client.send(get('/'))
  await eventually(() => results.length === 1)
  expect([results[0], limit.open]).toEqual([{ sent: 1, withheld: 0, endedBy: 'stalled' }, 0])
})

test('also one that stops after the application has ended the response with much of its own', async () => {
  const app = express()
  const limit = streamLimit({ keyGenerator: () => 'alice' })
  const results: StreamResult[] = []
  app.get('/', limit, async (req, res) => {
    const session = await openSession(req, res, { events, stallTimeoutMs: 200, keepAlive: null })
    res.end(`: ${'x'.repeat(20 * MB)}\n\n`)
    results.push(await streamEvents(session, never))
  })
  const { port } = await serve(app)
  const client = await raw(port)
  client.socket.pause()
  client.send(get('/'))
  await eventually(() => results.length === 1 && limit.open === 0)
  expect(results[0]?.endedBy).toBe('aborted')
})

test('a slow reader of one 12 MB event is healthy as long as it makes progress', async () => {
  const { app, results } = await stream(() => [{ event: 'n', data: 'x'.repeat(12 * MB) }], 1500)
  const { url } = await serve(app)
  const client = await open(url)
  // It reads 300 KB and rests 100 ms, nearly three times as long as the stall timeout in all. The kernel takes the
  // bytes in lumps of more than 1 MB, so each leaves a busy machine a second to spare.
  let allowed = STEP
  const rest = setInterval(() => {
    allowed += STEP
    client.response.resume()
  }, 100)
  client.response.on('data', () => {
    if (client.text.length >= allowed) client.response.pause()
  })
  await client.over
  clearInterval(rest)
  expect(client.response.complete).toBe(true)
  await eventually(() => results.length === 1)
  expect(results[0]).toEqual({ sent: 1, withheld: 0, endedBy: 'source' })
})

test('nor is one over TLS, where a write of 12 MB is done at once or not at all', async () => {
  const { app, results } = await stream(() => [{ event: 'n', data: 'x'.repeat(12 * MB) }], 1500)
  const { private: key, cert } = await generate([{ name: 'commonName', value: 'localhost' }])
  const server = createServer({ key, cert }, app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const socket = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
  })
  let received = 0
  let allowed = STEP
  // As slowly as the reader above.
  const rest = setInterval(() => {
    allowed += STEP
    socket.resume()
  }, 100)
  socket.on('data', (data) => {
    received += data.length
    if (received >= allowed) socket.pause()
  })
  socket.write(get('/', 'Connection: close'))
  await once(socket, 'close')
  clearInterval(rest)
  server.close()
  expect(received).toBeGreaterThan(12 * MB)
  expect(results[0]?.endedBy).toBe('source')
})

test('an idle stream is not stalled, however short the timeout', async () => {
  const app = express()
  app.get('/', async (req, res) => {
    const session = await openSession(req, res, { events, stallTimeoutMs: 20, keepAlive: null })
    await streamEvents(session, never)
  })
  const { url } = await serve(app)
  const client = await open(url)
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(client.response.closed).toBe(false)
})

test('stallTimeoutMs: Infinity cuts nobody', async () => {
  const { app, results } = await stream(() => [{ event: 'n', data: 'x'.repeat(20 * MB) }], Infinity)
  const { port, server } = await serve(app)
  const connected = once(server, 'connection')
  const client = await raw(port)
  client.socket.pause()
  client.send(get('/', 'Connection: close'))
  const [socket] = await connected
  await eventually(() => socket.writableLength > MB)
  await new Promise((resolve) => setTimeout(resolve, 50))
  client.socket.resume()
  await client.closed
  expect([client.text.length > 20 * MB, results[0]?.endedBy]).toEqual([true, 'source'])
})

test('a socket that dies under a stalled stream settles it as the client leaving', async () => {
  const { app, results } = await stream(() => Array(200).fill({ event: 'n', data: 'x'.repeat(MB) }), 60_000)
  const { port, server } = await serve(app)
  const connected = once(server, 'connection')
  const client = await raw(port)
  client.socket.pause()
  client.send(get('/'))
  const [socket] = await connected
  await eventually(() => socket.writableLength > MB / 2)
  client.socket.resetAndDestroy()
  await eventually(() => results.length === 1)
  expect(results[0]?.endedBy).toBe('client')
})
