import { once } from 'node:events'
import { tokens } from '../lib/tokens.js'
import { serveHttp, type Variant } from '../lib/variant.js'
import { frameOf, HEAD } from './write-frames.js'

/** Raw `res.write` that waits for 'drain', with an answer that ends. */
export const variant: Variant = {
  eventName: 'token',
  start: (_streams, options) =>
    serveHttp(async (_req, res) => {
      res.writeHead(200, HEAD)
      for await (const event of tokens(options.tokens ?? 0)) {
        if (!res.write(frameOf(event))) await once(res, 'drain')
      }
      res.end()
    }),
}
