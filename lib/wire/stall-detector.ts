import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { http2StreamOf } from '../http2-stream.js'
import { everyShared } from '../shared-interval.js'

/** How many checks without progress make a stall. More checks detect a stall sooner; each visits all that wait. */
const CHECKS_PER_TIMEOUT = 4

export interface StallDetectorEvents {
  /** Whether something is waiting for the client: bytes, or an end that middleware holds back. */
  readonly isWaiting: boolean
  /** How many bytes have left the response, where no socket tells. */
  readonly acceptedBytes: number
  onStall(): void
}

/**
 * Notices when the socket of a response has accepted no byte for `stallTimeoutMs` although some are waiting.
 *
 * Progress is measured in bytes that the kernel took, not in drained writes: one 12 MB event at 0.9 MB/s drains
 * nothing for 13 s and is healthy. It counts checks instead of reading a clock, so that a process that was
 * paused does not cut everybody when it wakes. While nothing is waiting it does nothing.
 */
export class StallDetector {
  readonly #res: ServerResponse
  readonly #stallTimeoutMs: number
  readonly #events: StallDetectorEvents
  #stopChecks: (() => void) | undefined
  /** How many bytes the kernel had taken at the last check; -1 before the first. */
  #accepted = -1
  #checksWithoutProgress = 0

  constructor(res: ServerResponse, stallTimeoutMs: number, events: StallDetectorEvents) {
    this.#res = res
    this.#stallTimeoutMs = stallTimeoutMs
    this.#events = events
  }

  /** Starts checking: something is waiting now. While it checks already this does nothing. */
  start(): void {
    if (this.#stopChecks || this.#stallTimeoutMs === Infinity) return
    this.#accepted = -1
    this.#checksWithoutProgress = 0
    this.#stopChecks = everyShared(this.#stallTimeoutMs / CHECKS_PER_TIMEOUT, () => this.#check())
  }

  stop(): void {
    this.#stopChecks?.()
    this.#stopChecks = undefined
  }

  #check(): void {
    if (!this.#events.isWaiting) return this.stop()
    const accepted = this.#acceptedBytes()
    const hasProgress = accepted !== this.#accepted
    this.#accepted = accepted
    this.#checksWithoutProgress = hasProgress ? 0 : this.#checksWithoutProgress + 1
    if (this.#checksWithoutProgress < CHECKS_PER_TIMEOUT) return
    this.stop()
    this.#events.onStall()
  }

  #acceptedBytes(): number {
    const { socket } = this.#res
    return http2StreamOf(this.#res) || !socket ? this.#events.acceptedBytes : acceptedBytes(socket)
  }
}

interface StreamHandle {
  bytesWritten?: number
  writeQueueSize?: number
  _parent?: StreamHandle
}

/**
 * How many bytes the kernel has taken from a socket. No public figure says it: `bytesWritten` counts what is
 * still queued. Node's own socket timeout reads `_handle.writeQueueSize` for the same purpose. Under TLS the
 * handle to ask is that of the TCP socket below: its own queue empties only when a whole write is done. A Duplex that
 * is no socket has neither.
 */
function acceptedBytes(socket: Socket): number {
  const own = (socket as { _handle?: StreamHandle | null })._handle
  const handle = own?._parent ?? own
  return (
    (handle?.bytesWritten ?? socket.bytesWritten ?? 0) - (handle?.writeQueueSize ?? socket.writableLength)
  )
}
