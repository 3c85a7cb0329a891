import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** What `res.write` is unless somebody wraps it. */
const NATIVE_WRITE = ServerResponse.prototype.write

/** Fields that node:http keeps on a response and a socket. */
interface Internals {
  _headerSent?: boolean
  outputData?: readonly unknown[]
}

/**
 * The socket to which a chunk (RFC 9112 section 7.1) may be written past `res.write`, or undefined.
 *
 * `res.write` makes four writes of a chunk, corks the socket, and uncorks it in the next tick: that costs more than
 * everything else about a small event. One write is the same bytes in the same order if the head has left, it is this
 * response's turn, nothing waits in the response's own queue, and nobody has wrapped `res.write`, to whom it would be hidden.
 */
export function socketForChunks(req: IncomingMessage, res: ServerResponse): Socket | undefined {
  const { socket } = res
  const { _headerSent, outputData } = res as unknown as Internals
  const isSafe =
    socket?.writable &&
    (socket as { _httpMessage?: unknown })._httpMessage === res &&
    res.write === NATIVE_WRITE &&
    _headerSent === true &&
    outputData?.length === 0 &&
    res.chunkedEncoding &&
    res.writableCorked === 0 &&
    req.httpVersionMajor === 1
  return isSafe ? socket : undefined
}

/** @param bytes how long the text is as UTF-8; not 0, which would end the body. */
export function writeChunk(socket: Socket, text: string, bytes: number): boolean {
  return socket.write(`${bytes.toString(16)}\r\n${text}\r\n`)
}
