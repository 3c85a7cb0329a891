import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { http2StreamOf } from '../http2-stream.js'
import { socketForChunks, writeChunk } from './chunk-framing.js'

/** What happens around the writes of a {@link WriteBuffer}. */
export interface WriteBufferEvents {
  /** Asked before each write; text that nobody can get any more is thrown away. */
  readonly isWritable: boolean
  /** Told after a write that the kernel has not taken whole. */
  onBacklog(): void
  /** Told if middleware that wraps `res.write` threw. The response is as it was left then. */
  onWriteError(error: unknown): void
}

/** Text on its way to a response whose turn has come. What is appended within one tick leaves in one write. */
export class WriteBuffer {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  readonly #events: WriteBufferEvents
  /** What was appended since the last write, and how long it is as UTF-8. */
  #text = ''
  #bytes = 0
  #isFlushScheduled = false
  /** Whether the last write filled what the response buffers, and 'drain' has not come since. */
  #needsDrain = false
  #drainListeners: (() => void)[] = []
  /** The size of the largest write since the client was last up to date, for {@link backlogBytes}. */
  #largestWriteBytes = 0
  /** How many bytes were given to the response so far, for {@link acceptedBytes}. */
  #writtenBytes = 0

  constructor(req: IncomingMessage, res: ServerResponse, events: WriteBufferEvents) {
    this.#req = req
    this.#res = res
    this.#events = events
  }

  /** Whether a whole high-water mark is waiting to be flushed. */
  get isFull(): boolean {
    return this.#bytes >= this.#res.writableHighWaterMark
  }

  /** Whether a writer that can wait should, for {@link onDrain}. */
  get needsDrain(): boolean {
    return this.#needsDrain
  }

  /**
   * How many bytes earlier ticks have left for the client to read, without the largest write among them: one large
   * event, or a snapshot that was pushed at once, does not put a reader behind.
   */
  get backlogBytes(): number {
    return Math.max(0, this.#res.writableLength - this.#largestWriteBytes)
  }

  /** How many bytes the response has passed on, for what has no socket of its own to ask: an HTTP/2 stream. */
  get acceptedBytes(): number {
    return this.#writtenBytes - this.#res.writableLength
  }

  /** @param bytes how long the text is as UTF-8. */
  append(text: string, bytes: number): void {
    this.#text += text
    this.#bytes += bytes
    if (this.#isFlushScheduled) return
    this.#isFlushScheduled = true
    scheduleFlush(this)
  }

  /** The end of the tick in which something was appended. */
  flushScheduled(): void {
    this.#isFlushScheduled = false
    this.flushNow()
  }

  /** Writes now what would otherwise be written at the end of the tick. */
  flushNow(): void {
    const text = this.#text
    const bytes = this.#bytes
    this.clear()
    if (bytes === 0 || !this.#events.isWritable) return
    const res = this.#res
    // Where less is waiting than it was, it is no longer among what waits.
    this.#largestWriteBytes = Math.max(Math.min(this.#largestWriteBytes, res.writableLength), bytes)
    this.#writtenBytes += bytes
    try {
      this.#write(text, bytes)
    } catch (error) {
      return this.#events.onWriteError(error)
    }
    if (res.writableLength > 0) this.#events.onBacklog()
  }

  clear(): void {
    this.#text = ''
    this.#bytes = 0
  }

  /** Calls `listener` once {@link needsDrain} is over; never, if the response ends first. */
  onDrain(listener: () => void): void {
    this.#drainListeners.push(listener)
  }

  #write(text: string, bytes: number): void {
    const res = this.#res
    const socket = socketForChunks(this.#req, res)
    if (socket) {
      if (!writeChunk(socket, text, bytes)) this.#awaitDrain(socket)
      return
    }
    // Middleware that wraps write may return nothing, which does not mean false: 'drain' would not come.
    const hasRoom = http2StreamOf(res) ? this.#writeInPieces(text) : res.write(text)
    if (hasRoom === false || res.writableNeedDrain) this.#awaitDrain(res)
  }

  /**
   * An HTTP/2 stream does not tell how much of one write is gone, and a slow reader of a large event would be taken for
   * one that has stalled.
   */
  #writeInPieces(text: string): boolean {
    const res = this.#res
    // It would join the pieces that wait into one write.
    ;(http2StreamOf(res) as { _writev?: unknown })._writev = undefined
    const bytes = Buffer.from(text)
    let hasRoom = true
    for (let start = 0; start < bytes.length; start += res.writableHighWaterMark) {
      hasRoom = res.write(bytes.subarray(start, start + res.writableHighWaterMark))
    }
    return hasRoom
  }

  #awaitDrain(from: Socket | ServerResponse): void {
    if (this.#needsDrain) return
    this.#needsDrain = true
    from.once('drain', () => {
      this.#needsDrain = false
      // Another listener may have filled it again.
      if (from.writableNeedDrain) return this.#awaitDrain(from)
      const listeners = this.#drainListeners
      this.#drainListeners = []
      for (const listener of listeners) listener()
    })
  }
}

/** The buffers that something was appended to in this tick. They share one callback: a broadcast has thousands. */
let scheduled: WriteBuffer[] = []

function scheduleFlush(buffer: WriteBuffer): void {
  if (scheduled.length === 0) process.nextTick(flushAll)
  scheduled.push(buffer)
}

function flushAll(): void {
  const buffers = scheduled
  scheduled = []
  for (const buffer of buffers) buffer.flushScheduled()
}
