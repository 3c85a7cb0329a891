import type { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'

/** Under this key an emitter carries our listeners. `Symbol.for`, as the package may be loaded twice. */
const ON_CLOSE = Symbol.for('express-sse-guard.onClose')

interface Watched extends EventEmitter {
  [ON_CLOSE]?: { listeners: Set<() => void>; run: () => void }
}

/**
 * Whether nobody will read this response any more, or somebody else has already ended it.
 *
 * Ask it after every await and in the tick in which a listener is attached: 'close' is not repeated for those
 * who come late. `res.socket` is no help: it is null for a pipelined response still waiting for its turn.
 */
export function isResponseOver(req: IncomingMessage, res: ServerResponse): boolean {
  return res.closed || res.destroyed || res.writableEnded || req.socket.destroyed
}

/**
 * Calls `listener` once, when the response closes or the socket under it does, whichever comes first.
 *
 * The response alone is not enough: one that is pipelined behind another never emits 'close' when the socket
 * dies. However many requests a socket carries, it has one listener of ours, and none once they are over.
 *
 * @returns a function that takes the listener back; calling it late or twice does nothing.
 */
export function onResponseClose(req: IncomingMessage, res: ServerResponse, listener: () => void): () => void {
  const { socket } = req
  const stop = () => {
    removeCloseListener(res, onClose)
    removeCloseListener(socket, onClose)
  }
  const onClose = () => {
    stop()
    listener()
  }
  addCloseListener(res, onClose)
  addCloseListener(socket, onClose)
  return stop
}

function addCloseListener(emitter: Watched, listener: () => void): void {
  const watch = emitter[ON_CLOSE]
  if (watch) {
    watch.listeners.add(listener)
    return
  }
  const listeners = new Set([listener])
  const run = () => {
    for (const each of listeners) each()
  }
  emitter[ON_CLOSE] = { listeners, run }
  emitter.on('close', run)
}

function removeCloseListener(emitter: Watched, listener: () => void): void {
  const watch = emitter[ON_CLOSE]
  if (!watch?.listeners.delete(listener) || watch.listeners.size > 0) return
  delete emitter[ON_CLOSE]
  emitter.removeListener('close', watch.run)
}
