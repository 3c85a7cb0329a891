import { ServerResponse } from 'node:http'
import { constants, Http2ServerResponse } from 'node:http2'
import { http2StreamOf } from '../http2-stream.js'

/** Ends a response past middleware that has wrapped `res.end` and threw: the response must end all the same. */
export function endUnwrapped(res: ServerResponse): void {
  const { end } = http2StreamOf(res) ? Http2ServerResponse.prototype : ServerResponse.prototype
  ;(end as () => void).call(res)
}

/** Not a hexadecimal number, so every parser of chunks (RFC 9112 section 7.1) stops here with an error. */
const BROKEN_CHUNK = '!\r\n'

/**
 * Ends a response, after what was written to it, in a way that a client reads as a failure and not as a clean end.
 *
 * The cut alone would not do on HTTP/1.1: under `Connection: close`, Node's fetch takes it for the end of the body. Without
 * chunks (HTTP/1.0) nothing better exists.
 */
export function breakOff(res: ServerResponse): void {
  const stream = http2StreamOf(res)
  if (stream) {
    // The reset overtakes what was not sent yet.
    stream.write('', () => stream.close(constants.NGHTTP2_INTERNAL_ERROR))
    return
  }
  const { socket } = res
  if (!socket) return endUnwrapped(res)
  if (res.chunkedEncoding) socket.write(BROKEN_CHUNK)
  socket.destroySoon()
}
