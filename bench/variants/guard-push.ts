import { openSession } from 'express-sse-guard'
import type { Variant } from '../lib/variant.js'
import { serveGuarded } from './guarded.js'

/** Ours, with `session.push`. */
export const variant: Variant = {
  eventName: 'token',
  start: (streams, options) =>
    serveGuarded(options, (sessionOptions) => async (req, res) => {
      const session = await openSession(req, res, sessionOptions)
      res.once(
        'close',
        streams.add(({ event, data }) => session.push(data, event)),
      )
    }),
}
