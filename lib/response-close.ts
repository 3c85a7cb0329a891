import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants } from 'node:http2'
import { http2StreamOf } from './http2-stream.js'
import { addSharedListener, runAll } from './shared-listener.js'

/** Under this key a response carries its {@link CloseHub}. `Symbol.for`, as the package may be loaded twice. */
const CLOSE_HUB = Symbol.for('express-sse-guard.closeHub')

/** Who listens to the close of one response: the limiters that admitted it, and its session. */
interface CloseHub {
  /** In the order in which they came. Empty once the response has closed. */
  listeners: (() => void)[]
  /** Takes our listeners off the response and its socket. */
  stop(): void
}

interface WithHub {
  [CLOSE_HUB]?: CloseHub | undefined
}

/**
 * Whether nobody will read this response any more, or somebody else has already ended it.
 *
 * Ask it after every await and in the tick in which a listener is attached: 'close' is not repeated for those
 * who come late. `res.socket` is no help: it is null for a pipelined response still waiting for its turn.
 */
export function isResponseClosed(req: IncomingMessage, res: ServerResponse): boolean {
  const stream = http2StreamOf(res)
  if (stream) return res.writableEnded || stream.destroyed || stream.closed
  return res.closed || res.destroyed || res.writableEnded || req.socket.destroyed
}

/**
 * Calls `listener` once, when the response closes or the socket under it does, whichever comes first.
 *
 * The response alone is not enough on HTTP/1.x: one that is pipelined behind another never emits 'close' when the socket
 * dies. However many requests a socket carries, it has one listener of ours, and none once they are over.
 *
 * @returns a function that takes the listener back; calling it late or twice does nothing.
 */
export function onResponseClose(req: IncomingMessage, res: ServerResponse, listener: () => void): () => void {
  const withHub = res as WithHub
  withHub[CLOSE_HUB] ??= createCloseHub(req, res)
  const hub = withHub[CLOSE_HUB]
  hub.listeners.push(listener)
  return () => {
    const index = hub.listeners.indexOf(listener)
    if (index < 0) return
    hub.listeners.splice(index, 1)
    if (hub.listeners.length === 0) hub.stop()
  }
}

function createCloseHub(req: IncomingMessage, res: ServerResponse): CloseHub {
  const close = () => {
    hub.stop()
    const { listeners } = hub
    hub.listeners = []
    runAll(listeners)
  }
  res.on('close', close)
  const stream = http2StreamOf(res)
  // A stream that is reset while bytes are pending may never emit 'close'.
  stream?.on('aborted', close)
  const stopSocket = stream ? undefined : addSharedListener(req.socket, close)
  const hub: CloseHub = {
    listeners: [],
    stop: () => {
      ;(res as WithHub)[CLOSE_HUB] = undefined
      res.removeListener('close', close)
      stream?.removeListener('aborted', close)
      stopSocket?.()
    },
  }
  return hub
}

/**
 * Closes a response at once, with what is still to be written. On HTTP/1.x that takes the socket along: a response that is
 * pipelined behind another has no socket of its own yet, and would wait for its turn to be destroyed.
 */
export function destroyResponse(req: IncomingMessage, res: ServerResponse): void {
  const stream = http2StreamOf(res)
  if (!stream) return void req.socket.destroy()
  // Does nothing to one that the client has reset, which must be destroyed to let go of what it was to send.
  if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL)
  else stream.destroy()
}
