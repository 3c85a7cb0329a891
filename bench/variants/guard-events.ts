import { openSession, streamEvents } from 'express-sse-guard'
import type { Variant } from '../lib/variant.js'
import { serveGuarded } from './guarded.js'

/** Ours, with `streamEvents` and a source that is cancelled by its signal. */
export const variant: Variant = {
  eventName: 'token',
  start: (streams, options) =>
    serveGuarded(options, (sessionOptions) => async (req, res) => {
      const session = await openSession(req, res, sessionOptions)
      await streamEvents(session, (signal) => streams.feed(signal))
    }),
}
