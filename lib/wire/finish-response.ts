import { ServerResponse } from 'node:http'
import { constants, Http2ServerResponse } from 'node:http2'
import { http2StreamOf } from '../http2-stream.js'

/** Ends a response past middleware that has wrapped `res.end` and threw: the response must end all the same. */
export function endUnwrapped(res: ServerResponse): void {
  const { end } = http2StreamOf(res) ? Http2ServerResponse.prototype : ServerResponse.prototype
  ;(end as () => void).call(res)
}

/**
 * A chunk (RFC 9112 section 7.1) that no parser accepts, in a way that leaves what came before it intact: a comma is no
 * extension name, which Node's parser refuses at once; others skip extensions, and fail when the connection closes without the
 * byte that is announced. A malformed size would cost a reader in Chromium all that arrives in the same read.
 */
const BROKEN_CHUNK = '1;,\r\n'

/** Chromium gives a page nothing more of a response that has failed, including what the page has not read by then. */
const READ_BEFORE_CUT_MS = 50

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
    stream.write('', () => cutLater(res, () => stream.close(constants.NGHTTP2_INTERNAL_ERROR)))
    return
  }
  const { socket } = res
  if (!socket) return endUnwrapped(res)
  if (res.chunkedEncoding) socket.write(BROKEN_CHUNK)
  cutLater(res, () => socket.destroySoon())
}

function cutLater(res: ServerResponse, cut: () => void): void {
  const timer = setTimeout(cut, READ_BEFORE_CUT_MS)
  res.once('close', () => clearTimeout(timer))
}
