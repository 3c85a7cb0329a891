import type { NextFunction, Request, Response } from 'express'
import type { EventBus } from './event-bus.js'

/** What was served since the start. */
export interface TrafficCounts {
  requests: number
  /** Those answered with a status of 400 or more. */
  failed: number
  /** Those of them answered with 429. */
  refused: number
}

/** Listed and not filtered, for the same reason as events are: the next secret header has a name nobody knows yet. */
const SHOWN_HEADERS = ['accept', 'accept-encoding', 'content-length', 'content-type', 'host', 'last-event-id']

const LONGEST_TEXT = 200

/**
 * Makes a middleware that counts and publishes each request once its response has closed: `request.seen`, and
 * `request.detail` for those who may know more. A stream is seen when it ends.
 *
 * Events carry everything known; what a viewer sees of it is the whitelist's business. Only what nobody may see
 * is left out here: the query string and the credentials.
 */
export function watchTraffic(bus: EventBus) {
  const counts: TrafficCounts = { requests: 0, failed: 0, refused: 0 }

  function trafficMiddleware(req: Request, res: Response, next: NextFunction): void {
    const { method, ip = null, socket } = req
    const path = shorten(req.path)
    const startedAt = performance.now()
    const sentBefore = socket.bytesWritten

    // 'close' comes once, after a complete answer as well as after an abort; 'finish' only after the former.
    res.once('close', () => {
      const status = res.statusCode
      counts.requests += 1
      if (status >= 400) counts.failed += 1
      if (status === 429) counts.refused += 1
      const durationMs = Math.round((performance.now() - startedAt) * 10) / 10
      const userAgent = shorten(req.get('User-Agent') ?? '') || null
      bus.publish({ event: 'request.seen', data: { method, path, status, durationMs, ip, userAgent } })
      bus.publish({
        event: 'request.detail',
        data: { path, headers: shownHeaders(req), bytesSent: socket.bytesWritten - sentBefore },
      })
    })
    next()
  }

  return { middleware: trafficMiddleware, counts: counts as Readonly<TrafficCounts> }
}

function shownHeaders(req: Request): Record<string, string> {
  const shown: Record<string, string> = {}
  for (const name of SHOWN_HEADERS) {
    const value = req.get(name)
    if (value !== undefined) shown[name] = shorten(value)
  }
  return shown
}

/** A client chooses the length of its own texts, and every subscriber would be sent them. */
function shorten(text: string): string {
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text
}
