import type { IncomingMessage, ServerResponse } from 'node:http'
import type { DefaultSessionState, Session } from 'better-sse'
import { isLimit, isTimerMs } from '../checks.js'
import { type EndReason, onTerminate } from '../endings.js'
import { badOption } from '../errors.js'
import { rulesOf, type ViewerEvents } from '../events/viewer-events.js'
import { checkOptionNames } from '../option-names.js'
import { isResponseClosed } from '../response-close.js'
import { everyShared } from '../shared-interval.js'
import { Connection } from '../wire/connection.js'
import {
  checkStreamable,
  checkStreamHeaders,
  markAsTaken,
  type StreamHeaders,
  writeHead,
} from '../wire/head.js'
import { readBody, waitForTurn } from '../wire/turn.js'
import { createGuardedSession } from './guarded-session.js'
import { lastEventIdOf } from './last-event-id.js'
import { checkOnWithhold, noWhitelist, type OnWithhold } from './session-context.js'

/** Options of {@link openSession}. `retry`, `keepAlive`, `headers`, `state` and `trustClientEventId` are better-sse's. */
export interface OpenSessionOptions<State = DefaultSessionState> {
  /** What this viewer may see, from `defineEvents`. Required: without it nothing may be written. */
  events: ViewerEvents

  /**
   * How many milliseconds an EventSource waits before it comes back after a broken connection or a clean end
   * (WHATWG HTML 9.2.5): an integer from 1 to 2147483647, or null to leave it to the client. Clients keep the
   * last value they were told, also over reconnects. It is written as one line before the first event.
   *
   * @default 2000 for GET, null for POST: readers of POST streams are often written by hand, and some of these lose an
   *   event that follows another line.
   */
  retry?: number | null | undefined

  /**
   * How many milliseconds apart an empty comment (one line, `:`) is sent, shorter than the read timeout of a proxy: an
   * integer from 1 to 2147483647, or null for none. Without one, a client whose leaving the process cannot read (it has
   * sent more behind the stream than Node reads ahead) is not noticed before the next write. Default: 10000.
   */
  keepAlive?: number | null | undefined

  /**
   * More response headers: a string, an array of them, or undefined to leave out a default one. They win over those of
   * earlier middleware, except that every Set-Cookie is kept and Cache-Control always has `no-transform`. Content-Length,
   * Content-Encoding, Transfer-Encoding and Trailer cannot be given; Content-Type may say `; charset=utf-8`.
   *
   * `Connection` is `'close'`, `'keep-alive'`, or undefined to let Node decide.
   * On HTTP/1.x a GET closes by default, since Chromium reads on for 5 s from a kept connection whose page has left, and
   * holds the slot for that long. It is never sent on HTTP/2 or to a HEAD.
   *
   * @default Connection: close for GET on HTTP/1.x; else Node decides
   */
  headers?: StreamHeaders | undefined

  /** Becomes `session.state`. Default: an empty object. */
  state?: State | undefined

  /**
   * Whether `session.lastId` starts as the `Last-Event-ID` header of the request. The client can put anything
   * there; a query parameter is never looked at. Default: true; with false it starts as `''`.
   */
  trustClientEventId?: boolean | undefined

  /**
   * After how many milliseconds a client is cut whose socket accepted no byte although some were waiting: an
   * integer from 1 to 2147483647, or `Infinity` for never. A slow reader that makes progress is not cut; but the
   * kernel takes bytes in lumps of up to a few MB, so leave a slow one the time for a lump: 30 s are enough for
   * some 50 KB/s. It is noticed within a quarter more than this time. It is also how long middleware may hold back
   * the end of a response. Default: 30000.
   */
  stallTimeoutMs?: number | undefined

  /**
   * How many bytes may be waiting for a slow reader, from earlier ticks, when `session.push` (or a better-sse
   * Channel) adds more; beyond it the client is cut, `endedBy: 'stalled'`, because `push` cannot wait as
   * `streamEvents` does. The largest write among them is not counted: one large event, or a snapshot that was pushed
   * at once, does not put a reader behind. Comments are left out beyond it. An integer >= 0 or `Infinity`. Default:
   * 4194304 (4 MiB).
   */
  maxPushedBytes?: number | undefined

  /** Told of each event that this session withholds, unless `streamEvents` is given its own. Default: none. */
  onWithhold?: OnWithhold | undefined
}

/**
 * Turns a request into an event stream: a better-sse session that can write nothing but what its whitelist
 * lets through, comments and `retry`. When it resolves, the head is on the wire.
 *
 * GET and POST stream. A HEAD gets the headers a GET would, and a session that is closed; so does a request
 * whose client has left, except for the headers. Writing to a closed session does nothing; before you register
 * one with a better-sse Channel, ask `session.isConnected`. A body must have been read before: what is left of it
 * is thrown away, because Node does not see a client leave whose body nobody reads.
 *
 * @throws (rejects with) ERR_STREAM_NO_WHITELIST if `events` is not from `defineEvents`; ERR_STREAM_HEADERS_SENT
 *   if the response was used already; ERR_STREAM_METHOD (405) for other methods; TypeError for an option that
 *   cannot work. In all of these nothing was sent.
 */
export async function openSession<State = DefaultSessionState>(
  req: IncomingMessage,
  res: ServerResponse,
  options: OpenSessionOptions<State>,
): Promise<Session<State>> {
  const rules = rulesOf(options?.events)
  if (!rules) {
    throw noWhitelist(
      "openSession needs a whitelist: openSession(req, res, { events: defineEvents({ 'build.done': ['url'] }) })",
    )
  }
  checkOptions(options)
  checkStreamable(req, res)
  markAsTaken(res)
  readBody(req)
  const { retry = req.method === 'POST' ? null : 2000 } = options
  const { keepAlive = 10_000, headers = {}, state, onWithhold } = options
  const { trustClientEventId = true, stallTimeoutMs = 30_000, maxPushedBytes = 4 * 1024 * 1024 } = options

  const connection = new Connection(req, res, { stallTimeoutMs, maxPushedBytes })
  let terminated: EndReason | undefined
  if (res.socket === null && req.method !== 'HEAD') {
    const { turn, stop } = waitForTurn(req, res)
    onTerminate(res, (reason) => {
      terminated = reason
      stop()
    })
    await turn
  }
  if (terminated && !isResponseClosed(req, res)) {
    // Its turn has not come: the response in front of it goes on, and a client does not come back from a 204.
    connection.closeUnopened(terminated)
    res.writeHead(204).end()
  } else if (isResponseClosed(req, res)) {
    onTerminate(res, (reason) => {
      terminated = reason
    })
    connection.closeUnopened(terminated)
  } else {
    writeHead(req, res, headers)
    if (req.method === 'HEAD') {
      connection.closeUnopened('client')
      res.end()
    } else {
      connection.open(retry === null ? '' : `retry: ${retry}\n`)
      onTerminate(res, (reason) => connection.terminate(reason))
    }
  }
  if (keepAlive !== null && !connection.isClosed) {
    connection.onClose(everyShared(keepAlive, () => connection.writeLine(':\n')))
  }
  const context = { req, res, connection, rules, onWithhold }
  return createGuardedSession(context, state ?? ({} as State), trustClientEventId ? lastEventIdOf(req) : '')
}

const OPTIONS = {
  events: true,
  retry: true,
  keepAlive: true,
  headers: true,
  state: true,
  trustClientEventId: true,
  stallTimeoutMs: true,
  maxPushedBytes: true,
  onWithhold: true,
} as const

const OTHER_NAMES = { serializer: 'asText in defineEvents', sanitizer: 'asText in defineEvents' }

function checkOptions(options: OpenSessionOptions<unknown>): void {
  checkOptionNames<OpenSessionOptions>('openSession', options, OPTIONS, OTHER_NAMES)
  const { retry, keepAlive, headers, trustClientEventId, stallTimeoutMs, maxPushedBytes, onWithhold } =
    options
  for (const [name, value] of Object.entries({ retry, keepAlive })) {
    if (value !== undefined && value !== null && !isTimerMs(value)) {
      throw badOption(
        `openSession: ${name}`,
        value,
        'an integer from 1 to 2147483647, in milliseconds, or null',
      )
    }
  }
  if (stallTimeoutMs !== undefined && stallTimeoutMs !== Infinity && !isTimerMs(stallTimeoutMs)) {
    throw badOption(
      'openSession: stallTimeoutMs',
      stallTimeoutMs,
      'an integer from 1 to 2147483647, in milliseconds, or Infinity',
    )
  }
  if (maxPushedBytes !== undefined && !isLimit(maxPushedBytes)) {
    throw badOption('openSession: maxPushedBytes', maxPushedBytes, 'an integer >= 0 or Infinity')
  }
  if (trustClientEventId !== undefined && typeof trustClientEventId !== 'boolean') {
    throw badOption('openSession: trustClientEventId', trustClientEventId, 'true or false')
  }
  checkOnWithhold('openSession', onWithhold)
  if (headers !== undefined) checkStreamHeaders(headers)
}
