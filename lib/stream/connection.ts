import { type IncomingMessage, ServerResponse } from 'node:http'
import { Connection } from 'better-sse'
import { streamError } from '../errors.js'
import { isResponseOver, onResponseClose } from '../response-close.js'
import { onStreamEnd, type StreamEnd, streamEndOf } from '../stream-end.js'
import { Outbox } from './outbox.js'
import { createRequestView, NO_QUERY } from './request-view.js'
import { StallWatch } from './stall-watch.js'
import { type StreamHeaders, writeStreamHead } from './stream-head.js'

/**
 * Why a connection is over: the client left, the application ended the response, the client stopped reading, or the
 * limiter ended the stream.
 */
export type ConnectionEnd = 'client' | 'aborted' | 'stalled' | StreamEnd

export interface ConnectionOptions {
  headers: StreamHeaders
  stallTimeoutMs: number
  maxPushedBytes: number
}

/**
 * The only way to the wire. It lets through frames that a whitelist made (`writeFrame`, `pushFrame`), comments
 * and `retry` (`sendChunk`, which better-sse calls with the text it has put together). Other text throws.
 *
 * What is written within one tick leaves in one write. Writing after the end does nothing.
 */
export class GuardedConnection extends Connection {
  // better-sse types these as whole fetch objects, but reads of them only what is here. Building a URL and a
  // Request would cost more than the rest of the connection, and throws for a malformed Host or target.
  override readonly url: URL
  override readonly request: Request
  override readonly response: Response

  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #maxPushedBytes: number
  readonly #stallWatch: StallWatch
  readonly #outbox: Outbox
  readonly #endListeners = new Set<() => void>()
  readonly #overListeners = new Set<() => void>()
  #onAbort: (() => void) | undefined
  #opened = false
  #endedBy: ConnectionEnd | undefined
  #ended = false
  #handedOver = false

  /**
   * Sends the head, unless the client has left already; to a HEAD that is the whole answer.
   *
   * @throws what `setHeader` and `writeHead` throw, such as for an invalid header value.
   */
  constructor(req: IncomingMessage, res: ServerResponse, options: ConnectionOptions) {
    super()
    this.#req = req
    this.#res = res
    this.#maxPushedBytes = options.maxPushedBytes
    this.#stallWatch = new StallWatch(
      res,
      options.stallTimeoutMs,
      () => this.#cut(),
      () => this.#ended && !res.writableEnded,
    )
    this.#outbox = new Outbox(
      res,
      () => this.writable,
      () => this.#stallWatch.arm(),
    )
    this.url = NO_QUERY as unknown as URL
    this.request = createRequestView(req, (listener) => {
      this.#onAbort = listener
    }) as unknown as Request
    this.response = { status: 200 } as Response

    if (isResponseOver(req, res)) {
      this.#endedBy = this.#findReason()
      return
    }
    writeStreamHead(res, options.headers)
    if (req.method === 'HEAD') {
      this.#endedBy = 'client'
      res.end()
      return
    }
    readBody(req)
    this.#takeOverEnd()
    // A socket that is destroyed reports every write as done, and `writableFinished` believes it.
    res.once('finish', () => {
      this.#handedOver = !req.socket.destroyed
    })
    onResponseClose(req, res, () => this.#close())
    onStreamEnd(res, () => this.end())
  }

  /** Whether a write would still reach the wire. */
  get writable(): boolean {
    return this.#endedBy === undefined && !this.#ended && !isResponseOver(this.#req, this.#res)
  }

  /** Why nothing can be written any more; undefined while something can. */
  get endedBy(): ConnectionEnd | undefined {
    return this.#endedBy ?? (this.writable ? undefined : this.#findReason())
  }

  /** Whether everything that was written, and the end of the response, was handed to the operating system. */
  get finished(): boolean {
    return this.#handedOver
  }

  /** better-sse calls it when the session is ready, but the head is out since the constructor. */
  override sendHead(): void {}

  /**
   * What better-sse itself writes: comments, `retry`, and whatever is in a raw `EventBuffer`.
   *
   * None of it is worth waiting for: to a reader too far behind it is not written.
   *
   * @throws ERR_STREAM_UNCHECKED for anything but comments and `retry`, as nothing can be checked in text.
   */
  override sendChunk(text: string): void {
    if (!isHarmless(text)) {
      throw streamError(
        'ERR_STREAM_UNCHECKED',
        'An EventBuffer cannot be checked against the whitelist; use session.push or streamEvents instead of batch',
      )
    }
    if (this.#outbox.bytesBehind <= this.#maxPushedBytes) this.#outbox.put(text)
  }

  override cleanup(): void {}

  /** Call it once the session is ready. Tells a session whose client left meanwhile; better-sse would miss it. */
  open(): void {
    this.#opened = true
    if (this.#endedBy) this.#tellOver()
    else if (this.#outbox.isEmpty) this.#res.flushHeaders()
  }

  /**
   * Writes the text of one frame, for a writer that can wait for the client.
   *
   * @returns whether that made a whole high-water mark, which was then written at once.
   */
  writeFrame(text: string): boolean {
    this.#outbox.put(text)
    if (!this.#outbox.isFull) return false
    this.#outbox.flush()
    return true
  }

  /**
   * Writes the text of one frame, for a writer that cannot wait.
   *
   * @returns whether it was taken: not after the end, and a reader too far behind is cut instead.
   */
  pushFrame(text: string): boolean {
    if (!this.writable) return false
    if (this.#outbox.bytesBehind > this.#maxPushedBytes) {
      this.#cut()
      return false
    }
    this.#outbox.put(text)
    return true
  }

  /** Whether a writer that can wait should, for {@link drain}. */
  get needsDrain(): boolean {
    return this.#outbox.needsDrain
  }

  /** See {@link Outbox.drain}. */
  drain(): Promise<void> {
    return this.#outbox.drain()
  }

  /**
   * Ends the response after what was written. Twice, or after the end, it does nothing.
   *
   * @throws what middleware throws that has wrapped `res.end`. The response ends all the same.
   */
  end(lastText = ''): void {
    if (!this.writable) return
    if (lastText) this.#outbox.put(lastText)
    this.#outbox.flushForEnd()
    this.#ended = true
    try {
      this.#res.end()
    } catch (error) {
      ;(ServerResponse.prototype.end as () => void).call(this.#res)
      throw error
    } finally {
      // Also here: middleware that came later may hold the end back.
      this.#announceEnd()
    }
  }

  /**
   * Calls `listener` once, when nothing can be written any more: somebody has ended the response, or it is over.
   *
   * @returns a function that takes the listener back.
   */
  onEnd(listener: () => void): () => void {
    this.#endListeners.add(listener)
    return () => this.#endListeners.delete(listener)
  }

  /** Calls `listener` once, when the response closes or its socket dies. */
  onOver(listener: () => void): void {
    this.#overListeners.add(listener)
  }

  /**
   * Whoever ends the response, what was written before goes out first and nothing after it, also if middleware
   * (a session store, say) holds the end back for a while.
   */
  #takeOverEnd(): void {
    const res = this.#res
    const end = res.end as (...args: unknown[]) => ServerResponse
    res.end = (...args: unknown[]) => {
      this.#outbox.flushForEnd()
      const wasEnded = this.#ended
      this.#ended = true
      try {
        end.apply(res, args)
      } catch (error) {
        // It has not ended: the argument was none that can be written, or middleware failed.
        this.#ended = wasEnded
        throw error
      }
      this.#announceEnd()
      return res
    }
  }

  #announceEnd(): void {
    if (!this.#endedBy) this.#stallWatch.arm()
    tell(this.#endListeners)
  }

  /** The socket, not the response: a pipelined response would wait for its turn to be destroyed. */
  #cut(): void {
    this.#endedBy ??= 'stalled'
    this.#req.socket.destroy()
  }

  #close(): void {
    this.#endedBy ??= this.#findReason()
    this.#stallWatch.stop()
    this.#outbox.clear()
    if (this.#opened) this.#tellOver()
  }

  /** A client that leaves half-closes its socket or resets it; otherwise it was closed from this side. */
  #findReason(): ConnectionEnd {
    const { socket } = this.#req
    const isLeft = socket.readableEnded || (socket.errored !== null && this.#res.errored === null)
    return streamEndOf(this.#res) ?? (isLeft && socket.destroyed && !this.#handedOver ? 'client' : 'aborted')
  }

  #tellOver(): void {
    tell(this.#endListeners)
    tell(this.#overListeners)
    // Last, as it emits 'disconnected' to listeners of the application, which may throw.
    this.#onAbort?.()
  }
}

/** Calls each listener once. */
function tell(listeners: Set<() => void>): void {
  const told = [...listeners]
  listeners.clear()
  for (const listener of told) listener()
}

/**
 * Reads the rest of a body that nobody reads. Otherwise Node stops reading from the socket, and does not see the
 * client leave until a write fails.
 */
function readBody(req: IncomingMessage): void {
  const hasBody =
    req.headers['content-length'] !== undefined || req.headers['transfer-encoding'] !== undefined
  if (hasBody && req.readableFlowing === null) req.resume()
}

/** Whether text is nothing but comments, `retry` fields and empty lines (WHATWG HTML 9.2.5). */
function isHarmless(text: string): boolean {
  if (typeof text !== 'string' || text.includes('\r') || !/(^|\n)$/.test(text)) return false
  return text.split('\n').every((line) => line === '' || line.startsWith(':') || /^retry: ?\d+$/.test(line))
}
