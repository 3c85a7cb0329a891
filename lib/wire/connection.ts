import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type EndReason, isTerminal } from '../endings.js'
import { messageOf } from '../errors.js'
import { http2StreamOf } from '../http2-stream.js'
import { destroyResponse, onResponseClose } from '../response-close.js'
import { warn } from '../warnings.js'
import { breakOff, endUnwrapped } from './finish-response.js'
import { StallDetector } from './stall-detector.js'
import { WriteBuffer } from './write-buffer.js'

/**
 * The longest that every client can wait (the largest 32-bit timer, 24.8 days): an event stream has no word for
 * "do not come back" (WHATWG HTML 9.2.5). A line of its own, as some parsers dispatch an empty event at a blank line.
 */
export const FINAL_RETRY = 'retry: 2147483647\n'

/** Why a connection has ended: the client left, the application ended the response, or the server ended the stream. */
export type ConnectionEnd = 'client' | 'aborted' | EndReason

export interface ConnectionOptions {
  stallTimeoutMs: number
  maxPushedBytes: number
}

/** An error that middleware threw in `res.write`. In an object, as it may be undefined. */
interface WriteFailure {
  readonly error: unknown
}

/**
 * The only way to the wire for a response whose head is written: frames that a whitelist made, comments and `retry`. What is
 * written within one tick leaves in one write. Writing after the end does nothing.
 */
export class Connection {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  /** Undefined on HTTP/2, where it is shared by all streams of a connection. */
  readonly #socket: Socket | undefined
  readonly #maxPushedBytes: number
  readonly #stallDetector: StallDetector
  readonly #buffer: WriteBuffer
  /** Who is told that nothing can be written any more. */
  #endListeners: (() => void)[] = []
  /** Who is told that the response has closed. */
  #closeListeners: (() => void)[] = []
  /** Whether nobody has ended the response, as far as this connection was told: asked for each event, so kept in a flag. */
  #isOpen = true
  /** Whether the response has closed, and everybody was told. */
  #isClosed = false
  /** Why it ended, once that is known. The first reason stays. */
  #endedBy: ConnectionEnd | undefined
  /** Whether everything that was written, and the end of the response, was handed to the operating system. */
  #isFinished = false
  /** What middleware threw in `res.write`, until somebody reports it. */
  #failure: WriteFailure | undefined

  constructor(req: IncomingMessage, res: ServerResponse, options: ConnectionOptions) {
    this.#req = req
    this.#res = res
    this.#socket = http2StreamOf(res) ? undefined : req.socket
    this.#maxPushedBytes = options.maxPushedBytes
    this.#buffer = new WriteBuffer(req, res, this)
    this.#stallDetector = new StallDetector(res, options.stallTimeoutMs, this)
  }

  /** Whether a write would still reach the wire. A captured `res.end` and a `destroy()` are told to the flag later, or not. */
  get isWritable(): boolean {
    return this.#isOpen && !this.#res.writableEnded && !this.#res.destroyed && !this.#socket?.destroyed
  }

  /** Why nothing can be written any more; undefined while something can. */
  get endedBy(): ConnectionEnd | undefined {
    return this.#endedBy ?? (this.isWritable ? undefined : this.#findReason())
  }

  get isFinished(): boolean {
    return this.#isFinished
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** For the stall detector. An end that middleware holds back is waiting too. */
  get isWaiting(): boolean {
    return this.#res.writableLength > 0 || (!this.#isOpen && !this.#res.writableEnded)
  }

  get acceptedBytes(): number {
    return this.#buffer.acceptedBytes
  }

  /** What middleware threw in `res.write`, for the one who reports it. What nobody takes is warned of. */
  takeFailure(): WriteFailure | undefined {
    const failure = this.#failure
    this.#failure = undefined
    return failure
  }

  /**
   * Puts the head on the wire, with the first line behind it.
   *
   * @throws what middleware throws that has wrapped `res.write` or `res.flushHeaders`. The response is ended then.
   */
  open(firstLine: string): void {
    const res = this.#res
    this.#takeOverEnd()
    res.once('finish', () => {
      this.#isFinished = isHandedOver(this.#req, res)
    })
    // Otherwise an HTTP/2 stream stays until the client has sent its whole body.
    const stream = http2StreamOf(res)
    stream?.once('finish', () => stream.close())
    onResponseClose(this.#req, res, () => this.#close())
    if (firstLine) {
      this.writeLine(firstLine)
      this.#buffer.flushNow()
    } else {
      try {
        res.flushHeaders()
      } catch (error) {
        this.onWriteError(error)
      }
    }
    const failure = this.takeFailure()
    if (failure) throw failure.error
  }

  /** For a response that was over before its head was written: nothing can be written, and nobody need be told. */
  closeUnopened(endedBy: ConnectionEnd | undefined): void {
    this.#endedBy = endedBy ?? this.#findReason()
    this.#isOpen = false
    this.#isClosed = true
  }

  /**
   * Writes a comment or `retry`: one line of ASCII, with its end. None is worth waiting for: to a reader too far behind it is
   * not written.
   */
  writeLine(line: string): void {
    if (this.isWritable && this.#buffer.backlogBytes <= this.#maxPushedBytes) {
      this.#buffer.append(line, Buffer.byteLength(line))
    }
  }

  /**
   * Writes one frame, for a writer that can wait for the client.
   *
   * @returns whether that made a whole high-water mark, which was then written at once.
   */
  writeFrame(text: string, bytes: number): boolean {
    this.#buffer.append(text, bytes)
    if (!this.#buffer.isFull) return false
    this.#buffer.flushNow()
    return true
  }

  /**
   * Writes one frame, for a writer that cannot wait.
   *
   * @returns whether it was taken: not after the end, and a reader too far behind is cut instead.
   */
  pushFrame(text: string, bytes: number): boolean {
    if (!this.isWritable) return false
    if (this.#buffer.backlogBytes > this.#maxPushedBytes) {
      this.onStall()
      return false
    }
    this.#buffer.append(text, bytes)
    return true
  }

  /** Whether a writer that can wait should, for {@link onDrain}. */
  get needsDrain(): boolean {
    return this.#buffer.needsDrain
  }

  /** See {@link WriteBuffer.onDrain}. */
  onDrain(listener: () => void): void {
    this.#buffer.onDrain(listener)
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

  /** Ends the stream from outside. */
  terminate(reason: EndReason): void {
    this.#endedBy ??= reason
    this.end(isTerminal(reason) ? FINAL_RETRY : '')
  }

  /** As {@link end}, but the client is to see that the response has failed. */
  breakOff(lastText: string): void {
    if (!this.#writeLast(lastText)) return
    breakOff(this.#res)
    this.#announceEnd()
  }

  /**
   * Calls `listener` once, when nothing can be written any more: somebody has ended the response, or it has closed.
   *
   * @returns a function that takes the listener back.
   */
  onEnd(listener: () => void): () => void {
    this.#endListeners.push(listener)
    return () => {
      const index = this.#endListeners.indexOf(listener)
      if (index >= 0) this.#endListeners.splice(index, 1)
    }
  }

  /** Calls `listener` once, when the response closes or its socket dies; at once if it has. */
  onClose(listener: () => void): void {
    if (this.#isClosed) listener()
    else this.#closeListeners.push(listener)
  }

  /** The kernel has not taken a write whole. */
  onBacklog(): void {
    this.#stallDetector.start()
  }

  /** The client has stopped reading: it is cut. */
  onStall(): void {
    this.#endedBy ??= 'stalled'
    this.#isOpen = false
    destroyResponse(this.#req, this.#res)
  }

  /** Middleware that has wrapped `res.write` threw, maybe at the end of a tick, where nobody could catch it. */
  onWriteError(error: unknown): void {
    this.#failure = { error }
    this.#isOpen = false
    endUnwrapped(this.#res)
    this.#announceEnd()
  }

  /** @returns whether the response can still be ended. */
  #writeLast(text: string): boolean {
    if (!this.isWritable) return false
    if (text) this.#buffer.append(text, Buffer.byteLength(text))
    this.#buffer.flushNow()
    // A write that failed has ended it.
    if (!this.isWritable) return false
    this.#isOpen = false
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
      this.#buffer.flushNow()
      const wasOpen = this.#isOpen
      this.#isOpen = false
      try {
        end.apply(res, args)
      } catch (error) {
        // It has not ended: the argument cannot be written, or middleware failed.
        this.#isOpen = wasOpen
        throw error
      }
      this.#announceEnd()
      return res
    }
  }

  #announceEnd(): void {
    if (!this.#isClosed && this.isWaiting) this.#stallDetector.start()
    tell(this.#endListeners)
  }

  #close(): void {
    this.#endedBy ??= this.#findReason()
    this.#isOpen = false
    this.#isClosed = true
    this.#stallDetector.stop()
    this.#buffer.clear()
    tell(this.#endListeners)
    tell(this.#closeListeners)
    const failure = this.takeFailure()
    if (failure)
      warn(`A stream was ended because middleware threw in res.write: ${messageOf(failure.error)}.`)
  }

  #findReason(): ConnectionEnd {
    return !this.#isFinished && hasClientLeft(this.#req, this.#res) ? 'client' : 'aborted'
  }
}

/** Calls each listener once. */
function tell(listeners: (() => void)[]): void {
  for (const listener of listeners.splice(0)) listener()
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
