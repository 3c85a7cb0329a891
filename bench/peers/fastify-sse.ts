import type { AddressInfo } from 'node:net'
import { fastifySSE } from '@fastify/sse'
import fastify from 'fastify'
import type { Variant } from '../lib/variant.js'

/** The plugin @fastify/sse, with a source. */
export const variant: Variant = {
  eventName: 'token',
  async start(streams) {
    const app = fastify()
    await app.register(fastifySSE)
    app.get('/stream', { sse: { kind: 'only' } }, async (_request, reply) => {
      const feed = streams.feed()
      // Otherwise the head waits for the first event.
      reply.sse.sendHeaders()
      reply.raw.flushHeaders()
      reply.sse.onClose(() => feed.end())
      await reply.sse.send(feed)
    })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as AddressInfo
    return { port, close: () => void app.close() }
  },
}
