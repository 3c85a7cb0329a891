import type { ServerResponse } from 'node:http'
import type { Http2ServerResponse, ServerHttp2Stream } from 'node:http2'

/**
 * The HTTP/2 stream under a response of node:http2's compatibility API; undefined on HTTP/1.x.
 *
 * On HTTP/2 `req.socket` stands for the whole connection: its close, its destruction and everything stored on it are
 * shared by all streams, and after the close of a stream it is null. What concerns one response is asked of its stream.
 */
export function http2StreamOf(res: ServerResponse | Http2ServerResponse): ServerHttp2Stream | undefined {
  return res.req.httpVersionMajor === 2 ? (res as Http2ServerResponse).stream : undefined
}
