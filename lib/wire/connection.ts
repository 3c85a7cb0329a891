import type { IncomingMessage, ServerResponse } from 'node:http'
import { Connection } from 'better-sse'
import { type EndReason, endReasonOf, onTerminate } from '../endings.js'
import { messageOf, streamError } from '../errors.js'
import { http2StreamOf } from '../http2-stream.js'
import { destroyResponse, isResponseClosed, onResponseClose } from '../response-close.js'
import { warn } from '../warnings.js'
import { breakOff, endUnwrapped } from './finish-response.js'
import { type StreamHeaders, writeStreamHead } from './head.js'
import { createRequestView, NO_QUERY } from './request-view.js'
import { StallDetector } from './stall-detector.js'
import { WriteBuffer } from './write-buffer.js'

/**
 * Why a connection is over: the client left, the application ended the response, the client stopped reading, or the
 * limiter ended the stream.
 */
export type ConnectionEnd = 'client' | 'aborted' | 'stalled' | EndReason

export interface ConnectionOptions {
  headers: StreamHeaders
  retry: number | null
  stallTimeoutMs: number
  maxPushedBytes: number
}

/** An error that middleware threw in `res.write`. In an object, as it may be undefined. */
interface WriteFailure {
  readonly error: unknown
}

/**
 * The only way to the wire. It lets through frames that a whitelist made (`writeFrame`, `pushFrame`), comments
 * and `retry` (`sendChunk`, which better-sse calls with the text it has put together). Other text throws.
 *
 * What is written within one tick leaves in one write. Writing after the end does nothing.
 */
export class GuardedConnection extends Connection {
  // better-sse types these as whole fetch objects, but reads of them only what is here.
  override readonly url: URL
  override readonly request: Request
  override readonly response: Response

  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #retry: number | null
  readonly #maxPushedBytes: number
  readonly #stallWatch: StallDetector
  readonly #outbox: WriteBuffer
  readonly #endListeners = new Set<() => void>()
  readonly #overListeners = new Set<() => void>()
  #onAbort: (() => void) | undefined
  #opened = false
  #endedBy: ConnectionEnd | undefined
  #ended = false
  #over = false
  #handedOver = false
  #failure: WriteFailure | undefined

  /**
   * Sends the head, unless the client has left already; to a HEAD that is the whole answer.
   *
   * @throws what `setHeader` and `writeHead` throw, such as for an invalid header value.
   */
  constructor(req: IncomingMessage, res: ServerResponse, options: ConnectionOptions) {
    super()
    this.#req = req
    this.#res = res
    this.#retry = options.retry
    this.#maxPushedBytes = options.maxPushedBytes
    this.#outbox = new WriteBuffer(res, {
      isWritable: () => this.writable,
      onWrite: () => this.#stallWatch.arm(),
      onError: (error) => this.#failWrite(error),
    })
    this.#stallWatch = new StallDetector(
      res,
      options.stallTimeoutMs,
      () => this.#cut(),
      () => this.#ended && !res.writableEnded,
      () => this.#outbox.bytesPassedOn,
    )
    this.url = NO_QUERY as unknown as URL
    this.request = createRequestView(req, (listener) => {
      this.#onAbort = listener
    }) as unknown as Request
    this.response = { status: 200 } as Response

    if (isResponseClosed(req, res)) {
      this.#endedBy = this.#findReason()
      return
    }
    writeStreamHead(req, res, options.headers)
    if (req.method === 'HEAD') {
      this.#endedBy = 'client'
      res.end()
      return
    }
    readBody(req)
    this.#takeOverEnd()
    res.once('finish', () => {
      this.#handedOver = isHandedOver(req, res)
    })
    onResponseClose(req, res, () => this.#close())
    onTerminate(res, () => this.end())
  }

  /** Whether a write would still reach the wire. */
  get writable(): boolean {
    return this.#endedBy === undefined && !this.#ended && !isResponseClosed(this.#req, this.#res)
  }

  /** Why nothing can be written any more; undefined while something can. */
  get endedBy(): ConnectionEnd | undefined {
    return this.#endedBy ?? (this.writable ? undefined : this.#findReason())
  }

  /** What middleware threw in `res.write`, for the one who reports it. What nobody takes is warned of. */
  takeFailure(): WriteFailure | undefined {
    const failure = this.#failure
    this.#failure = undefined
    return failure
  }

  /** Whether everything that was written, and the end of the response, was handed to the operating system. */
  get finished(): boolean {
    return this.#handedOver
  }

  /** better-sse calls it when the session is ready, but the head is out since the constructor. */
  override sendHead(): void {}

  /**
   * What better-sse itself writes: comments, `retry`, and whatever is in a raw `EventBuffer`. Blank lines are left out:
   * some parsers dispatch an empty event at each.
   *
   * None of it is worth waiting for: to a reader too far behind it is not written.
   *
   * @throws ERR_STREAM_UNCHECKED for anything but comments and `retry`, as nothing can be checked in text.
   */
  override sendChunk(text: string): void {
    const lines = controlLinesOf(text)
    if (!lines) {
      throw streamError(
        'ERR_STREAM_UNCHECKED',
        'An EventBuffer cannot be checked against the whitelist; use session.push or streamEvents instead of batch',
      )
    }
    if (this.#outbox.backlogBytes > this.#maxPushedBytes) return
    for (const line of lines) this.#outbox.put(`${line}\n`)
  }

  override cleanup(): void {}

  /**
   * Call it once the session is ready. Puts the head on the wire, with `retry` behind it. A session whose client left
   * meanwhile is told; better-sse would miss it.
   *
   * @throws what middleware throws that has wrapped `res.write` or `res.flushHeaders`. The response is ended then.
   */
  open(): void {
    this.#opened = true
    if (this.#endedBy) return this.#tellOver()
    if (this.#retry !== null) this.#outbox.put(`retry: ${this.#retry}\n`)
    if (this.#outbox.isEmpty) {
      try {
        this.#res.flushHeaders()
      } catch (error) {
        this.#failWrite(error)
      }
    } else this.#outbox.flush()
    const failure = this.takeFailure()
    if (failure) throw failure.error
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
    if (this.#outbox.backlogBytes > this.#maxPushedBytes) {
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

  /** See {@link WriteBuffer.drain}. */
  drain(): Promise<void> {
    return this.#outbox.drain()
  }

  /**
   * Ends the response after what was written. Twice, or after the end, it does nothing.
   *
   * @throws what middleware throws that has wrapped `res.end`. The response ends all the same.
   */
  end(lastText = ''): void {
    if (!this.#writeLast(lastText)) return
    try {
      this.#res.end()
    } catch (error) {
      endUnwrapped(this.#res)
      throw error
    } finally {
      // Also here: middleware that came later may hold the end back.
      this.#announceEnd()
    }
  }

  /** As {@link end}, but the client is to see that the response has failed. */
  breakOff(lastText: string): void {
    if (!this.#writeLast(lastText)) return
    breakOff(this.#res)
    this.#announceEnd()
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

  /** Calls `listener` once, when the response closes or its socket dies; at once if it has. */
  onOver(listener: () => void): void {
    if (this.#over) listener()
    else this.#overListeners.add(listener)
  }

  /** @returns whether the response can still be ended. */
  #writeLast(text: string): boolean {
    if (!this.writable) return false
    if (text) this.#outbox.put(text)
    this.#outbox.flushNow()
    // A write that failed has ended it.
    if (!this.writable) return false
    this.#ended = true
    return true
  }

  /**
   * Whoever ends the response, what was written before goes out first and nothing after it, even if middleware
   * (a session store, say) holds the end back for a while.
   */
  #takeOverEnd(): void {
    const res = this.#res
    const end = res.end as (...args: unknown[]) => ServerResponse
    res.end = (...args: unknown[]) => {
      this.#outbox.flushNow()
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

  /** Middleware that has wrapped `res.write` threw, maybe at the end of a tick, where nobody could catch it. */
  #failWrite(error: unknown): void {
    this.#failure = { error }
    this.#ended = true
    endUnwrapped(this.#res)
    this.#announceEnd()
  }

  #cut(): void {
    this.#endedBy ??= 'stalled'
    destroyResponse(this.#req, this.#res)
  }

  #close(): void {
    this.#endedBy ??= this.#findReason()
    this.#stallWatch.stop()
    this.#outbox.clear()
    if (this.#opened) this.#tellOver()
  }

  #findReason(): ConnectionEnd {
    const isLeft = !this.#handedOver && hasClientLeft(this.#req, this.#res)
    return endReasonOf(this.#res) ?? (isLeft ? 'client' : 'aborted')
  }

  #tellOver(): void {
    this.#over = true
    tell(this.#endListeners)
    tell(this.#overListeners)
    const failure = this.takeFailure()
    if (failure)
      warn(`A stream was ended because middleware threw in res.write: ${messageOf(failure.error)}.`)
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

/** Asked on 'finish'. A destroyed socket reports every write as done, and an HTTP/2 response finishes whenever it closes. */
function isHandedOver(req: IncomingMessage, res: ServerResponse): boolean {
  const stream = http2StreamOf(res)
  return stream ? res.writableEnded && !stream.aborted && !stream.rstCode : !req.socket.destroyed
}

/** A client that leaves half-closes its socket or resets it; otherwise it was closed from this side. */
function hasClientLeft(req: IncomingMessage, res: ServerResponse): boolean {
  const stream = http2StreamOf(res)
  if (stream) return stream.aborted || stream.rstCode !== 0
  const { socket } = req
  return socket.destroyed && (socket.readableEnded || (socket.errored !== null && res.errored === null))
}

/** The lines of a text that has nothing but comments, `retry` fields and blank lines (WHATWG HTML 9.2.5). */
function controlLinesOf(text: string): string[] | undefined {
  if (typeof text !== 'string' || text.includes('\r') || !/(^|\n)$/.test(text)) return undefined
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.every((line) => line.startsWith(':') || /^retry: ?\d+$/.test(line)) ? lines : undefined
}
