import type { EventEmitter } from 'node:events'

/** Under this key an emitter or signal carries our listeners. `Symbol.for`, as the package may be loaded twice. */
const SHARED = Symbol.for('express-sse-guard.sharedListener')

/** What many of our streams listen to: the 'close' of a socket or response, the 'abort' of a signal. */
type Target = EventEmitter | AbortSignal

interface Shared {
  [SHARED]?: { listeners: Set<() => void>; run: () => void }
}

/**
 * Adds a listener to something that many of our streams listen to (a socket, an application's signal), which
 * thereby has one listener of ours, however many there are, and none when there are none.
 *
 * @returns a function that takes the listener back; calling it twice does nothing.
 */
export function addSharedListener(target: Target, listener: () => void): () => void {
  const shared = target as Shared
  let entry = shared[SHARED]
  if (!entry) {
    const listeners = new Set<() => void>()
    entry = { listeners, run: () => runAll(listeners) }
    shared[SHARED] = entry
    if (isSignal(target)) target.addEventListener('abort', entry.run)
    else target.on('close', entry.run)
  }
  const { listeners, run } = entry
  listeners.add(listener)
  return () => {
    if (!listeners.delete(listener) || listeners.size > 0) return
    delete shared[SHARED]
    if (isSignal(target)) target.removeEventListener('abort', run)
    else target.removeListener('close', run)
  }
}

function isSignal(target: Target): target is AbortSignal {
  return target instanceof AbortSignal
}

/** Calls all, even if one throws. */
export function runAll(listeners: Iterable<() => void>): void {
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
