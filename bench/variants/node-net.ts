import { createServer } from 'node:net'
import { listen, type Variant } from '../lib/variant.js'
import { frameOf, HEAD } from './write-frames.js'

const HEAD_TEXT = [
  'HTTP/1.1 200 OK',
  ...Object.entries({ ...HEAD, 'Transfer-Encoding': 'chunked' }).map((header) => header.join(': ')),
  '\r\n',
].join('\r\n')

/** Raw node:net, the floor: no HTTP parser, and one write with its own chunk framing for each event. */
export const variant: Variant = {
  eventName: 'token',
  start: (streams) =>
    listen(
      createServer({ noDelay: true }, (socket) => {
        socket.on('error', () => {})
        socket.once('data', () => {
          socket.write(HEAD_TEXT)
          socket.once(
            'close',
            streams.add((event) => {
              const frame = frameOf(event)
              // The frames are ASCII, so that their length is their number of bytes.
              socket.write(`${frame.length.toString(16)}\r\n${frame}\r\n`, 'latin1')
            }),
          )
        })
      }),
    ),
}
