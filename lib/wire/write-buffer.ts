import type { ServerResponse } from 'node:http'
import { http2StreamOf } from '../http2-stream.js'

/** What happens around the writes of an {@link WriteBuffer}. */
export interface WriteBufferEvents {
  /** Asked before each write; text that nobody can get any more is thrown away. */
  isWritable(): boolean
  /** Told after each write. */
  onWrite(): void
  /** Told once if middleware that wraps `res.write` threw. The response is as it was left then. */
  onError(error: unknown): void
}

/**
 * Text on its way to a response. What is put in within one tick leaves in one write.
 *
 * A response that is pipelined behind another keeps its text here until its turn: Node stops reading from a client
 * for whom it holds too much, and then does not see it leave.
 */
export class WriteBuffer {
  readonly #res: ServerResponse
  readonly #events: WriteBufferEvents
  #drainListeners: (() => void)[] = []
  #text = ''
  #bytes = 0
  /** How many of these come from earlier ticks: only while the response waits for its turn are there any. */
  #earlierBytes = 0
  /** The size of the largest write since the client was last up to date. */
  #largestWrite = 0
  #flushScheduled = false
  #needsDrain = false
  /** How many bytes were given to the response so far. */
  #bytesWritten = 0

  constructor(res: ServerResponse, events: WriteBufferEvents) {
    this.#res = res
    this.#events = events
    if (this.#isQueued) res.once('socket', this.#drained)
  }

  get isEmpty(): boolean {
    return this.#text === ''
  }

  /** Whether a whole high-water mark is waiting to be flushed. */
  get isFull(): boolean {
    return this.#bytes >= this.#res.writableHighWaterMark
  }

  /** Whether a writer that can wait should, for {@link drain}. */
  get needsDrain(): boolean {
    return this.#needsDrain || this.#isQueued
  }

  /**
   * How many bytes earlier ticks have left for the client to read, without the largest write among them: one large
   * event, or a snapshot that was pushed at once, does not put a reader behind.
   */
  get backlogBytes(): number {
    return Math.max(0, this.#res.writableLength - this.#largestWrite) + this.#earlierBytes
  }

  /** How many bytes the response has passed on, for what has no socket of its own to ask: an HTTP/2 stream. */
  get bytesPassedOn(): number {
    return this.#bytesWritten - this.#res.writableLength
  }

  put(text: string): void {
    // Keep-alive comments go on until the response has closed, which may be long after its end.
    if (!this.#events.isWritable()) return
    this.#text += text
    this.#bytes += Buffer.byteLength(text)
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    process.nextTick(this.#scheduledFlush)
  }

  /** Writes now what would otherwise be written at the end of the tick. */
  flush(): void {
    if (!this.#isQueued) this.flushNow()
  }

  /** As {@link flush}, also before this response has its turn: it is going to end, and no more will come. */
  flushNow(): void {
    const text = this.#text
    const bytes = this.#bytes
    this.clear()
    if (text === '' || !this.#events.isWritable()) return
    // Where less is waiting than it was, it is no longer among what waits.
    this.#largestWrite = Math.max(Math.min(this.#largestWrite, this.#res.writableLength), bytes)
    this.#bytesWritten += bytes
    try {
      // Middleware that wraps write may return nothing, which does not mean false: 'drain' would not come.
      if (this.#write(text) === false || this.#res.writableNeedDrain) this.#awaitDrain()
    } catch (error) {
      return this.#events.onError(error)
    }
    this.#events.onWrite()
  }

  /**
   * On HTTP/2 in pieces: a stream does not tell how much of one write is gone, and a slow reader of a large event would be
   * taken for one that has stalled.
   */
  #write(text: string): boolean {
    const stream: { _writev?: unknown } | undefined = http2StreamOf(this.#res)
    if (!stream) return this.#res.write(text)
    // It would join the pieces that wait into one write.
    stream._writev = undefined
    const bytes = Buffer.from(text)
    const pieceBytes = this.#res.writableHighWaterMark
    let hasRoom = true
    for (let start = 0; start < bytes.length; start += pieceBytes) {
      hasRoom = this.#res.write(bytes.subarray(start, start + pieceBytes))
    }
    return hasRoom
  }

  clear(): void {
    this.#text = ''
    this.#bytes = 0
    this.#earlierBytes = 0
  }

  /** Resolves when {@link needsDrain} is over; never, if the response ends first. */
  drain(): Promise<void> {
    return new Promise((resolve) => this.#drainListeners.push(resolve))
  }

  get #isQueued(): boolean {
    return this.#res.socket === null
  }

  readonly #scheduledFlush = () => {
    this.#flushScheduled = false
    this.flush()
    this.#earlierBytes = this.#bytes
  }

  #awaitDrain(): void {
    if (this.#needsDrain) return
    this.#needsDrain = true
    this.#res.once('drain', this.#drained)
  }

  readonly #drained = () => {
    this.#needsDrain = false
    // Another listener may have filled it again.
    if (this.#res.writableNeedDrain) return this.#awaitDrain()
    this.flush()
    const listeners = this.#drainListeners
    this.#drainListeners = []
    for (const listener of listeners) listener()
  }
}
