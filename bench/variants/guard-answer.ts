import { openSession, streamEvents } from 'express-sse-guard'
import { tokens } from '../lib/tokens.js'
import type { Variant } from '../lib/variant.js'
import { serveGuarded } from './guarded.js'

/** Ours, with an answer that ends. */
export const variant: Variant = {
  eventName: 'token',
  start: (_streams, options) =>
    serveGuarded(options, (sessionOptions) => async (req, res) => {
      const session = await openSession(req, res, sessionOptions)
      await streamEvents(session, () => tokens(options.tokens ?? 0), { end: 'final' })
    }),
}
