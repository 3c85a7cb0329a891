/** Under this key an emitter or signal carries our listeners. `Symbol.for`, as the package may be loaded twice. */
const SHARED = Symbol.for('express-sse-guard.sharedListener')

interface Shared {
  [SHARED]?: { listeners: Set<() => void>; run: () => void }
}

/** How the one real listener gets on and off its target. */
export interface Attachment<Target> {
  attach(target: Target, run: () => void): void
  detach(target: Target, run: () => void): void
}

/**
 * Adds a listener to something that many of our streams listen to (a socket, an application's signal), which
 * thereby has one listener of ours, however many there are, and none when there are none.
 *
 * @returns a function that takes the listener back; calling it twice does nothing.
 */
export function addSharedListener<Target extends object>(
  target: Target,
  { attach, detach }: Attachment<Target>,
  listener: () => void,
): () => void {
  const shared = target as Shared
  let entry = shared[SHARED]
  if (!entry) {
    const listeners = new Set<() => void>()
    entry = { listeners, run: () => runAll(listeners) }
    shared[SHARED] = entry
    attach(target, entry.run)
  }
  const { listeners, run } = entry
  listeners.add(listener)
  return () => {
    if (!listeners.delete(listener) || listeners.size > 0) return
    delete shared[SHARED]
    detach(target, run)
  }
}

function runAll(listeners: ReadonlySet<() => void>): void {
  for (const listener of listeners) {
    try {
      listener()
    } catch (error) {
      // An application's listener at the end of ours threw. It is still uncaught, but the others, who give slots
      // back, have run.
      process.nextTick(() => {
        throw error
      })
    }
  }
}
