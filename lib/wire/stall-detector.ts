import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { http2StreamOf } from '../http2-stream.js'

/** How many looks without progress make a stall. More looks cut more punctually; each costs a timer. */
const LOOKS = 4

/**
 * Notices when the socket of a response has accepted no byte for `stallTimeoutMs` although some are waiting.
 *
 * Progress is measured in bytes that the kernel took, not in drained writes: one 12 MB event at 0.9 MB/s drains
 * nothing for 13 s and is healthy. It counts looks instead of reading a clock, so that a process that was
 * paused does not cut everybody when it wakes. While nothing is waiting there is no timer.
 */
export class StallDetector {
  #timer: NodeJS.Timeout | undefined
  #accepted = -1
  #looksWithoutProgress = 0

  constructor(
    private readonly res: ServerResponse,
    private readonly stallTimeoutMs: number,
    private readonly onStall: () => void,
    /** Whether the response was ended, but middleware still holds that back: this is waiting too. */
    private readonly isEndHeld: () => boolean,
    /** How many bytes have left the response, where no socket tells. */
    private readonly bytesPassedOn: () => number,
  ) {}

  /** Starts watching; call it after every write and end. While it watches already this does nothing. */
  arm(): void {
    if (this.#timer || this.stallTimeoutMs === Infinity) return
    this.#accepted = -1
    this.#looksWithoutProgress = 0
    this.#timer = setTimeout(this.#look, this.stallTimeoutMs / LOOKS)
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #acceptedBytes(): number {
    const { res } = this
    if (http2StreamOf(res)) return this.bytesPassedOn()
    // A pipelined response whose turn has not come has no socket yet: it waits, but not for its reader.
    return res.socket ? acceptedBytes(res.socket) : -1
  }

  readonly #look = () => {
    const { res } = this
    if (res.writableLength === 0 && !this.isEndHeld()) return this.stop()
    const accepted = this.#acceptedBytes()
    const stuck = accepted === this.#accepted && accepted !== -1
    this.#accepted = accepted
    this.#looksWithoutProgress = stuck ? this.#looksWithoutProgress + 1 : 0
    if (this.#looksWithoutProgress < LOOKS) this.#timer?.refresh()
    else {
      this.stop()
      this.onStall()
    }
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
