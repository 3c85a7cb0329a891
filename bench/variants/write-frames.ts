import type { ServerResponse } from 'node:http'
import type { BenchEvent } from '../lib/bench-event.js'
import type { OpenStreams } from '../lib/open-streams.js'

/** A stream written by hand. */
export function writeFrames(res: ServerResponse, streams: OpenStreams): void {
  res.writeHead(200, HEAD)
  res.flushHeaders()
  res.once(
    'close',
    streams.add((event) => res.write(frameOf(event))),
  )
}

export const HEAD = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no',
  Connection: 'close',
}

export function frameOf({ event, data }: BenchEvent): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
