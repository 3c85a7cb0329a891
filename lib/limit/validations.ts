import type { SlotStore } from '../store/slot-store.js'
import { warn } from '../warnings.js'

const SEEN = Symbol.for('express-sse-guard.misuse')

interface Seen {
  stores: WeakSet<SlotStore>
  inHandler: boolean
}

const shared = globalThis as { [SEEN]?: Seen }

/**
 * Warns, with `process.emitWarning`, of two mistakes that leave a limiter without effect and that no request
 * would ever show: a limiter made anew for each request, and one store under two limiters.
 */
export function warnOfMisuse(store: SlotStore): void {
  shared[SEEN] ??= { stores: new WeakSet(), inHandler: false }
  const seen = shared[SEEN]
  if (seen.stores.has(store)) {
    warn(
      'One store was given to two limiters: their keys are counted together, and a stream that passes both ' +
        'takes two slots. Give each limiter a store of its own, or use one limiter on both routes.',
    )
  }
  seen.stores.add(store)
  // Express 5: router/lib/layer.js. Express 4: express/lib/router/layer.js.
  if (!seen.inHandler && /[\\/]router[\\/](?:lib[\\/])?layer\.js/.test(new Error().stack ?? '')) {
    seen.inHandler = true
    warn(
      'streamLimit() was called while a request was being handled. A limiter that is made for each request ' +
        'counts nothing: make it once, when the app starts, and pass that one to app.use().',
    )
  }
}
