import { createChannel } from 'better-sse'
import { openSession } from 'express-sse-guard'
import type { Variant } from '../lib/variant.js'
import { serveGuarded } from './guarded.js'

/** A better-sse Channel over our sessions. */
export const variant: Variant = {
  eventName: 'token',
  async start(streams, options) {
    const channel = createChannel()
    streams.add(({ event, data }) => channel.broadcast(data, event))
    const running = await serveGuarded(options, (sessionOptions) => async (req, res) => {
      channel.register(await openSession(req, res, sessionOptions))
    })
    return { ...running, countStreams: () => channel.sessionCount }
  },
}
