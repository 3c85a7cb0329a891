import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { createParser } from 'eventsource-parser'
import { checkBenchData } from './bench-event.js'

export interface Target {
  port: number
  eventName: string
  ownEvents: readonly string[]
  /** Whether the server ends the response; otherwise an end before `leave` is a fault. */
  isEnding?: boolean
}

export interface ViewerCallbacks {
  onEvent: () => void
  onComment: () => void
  onFault: (error: Error) => void
}

/** One stream, read by Node's HTTP client and a parser of event streams that millions use. */
export class StreamViewer {
  /** When the head is there. */
  readonly opened: Promise<void>
  /** When the connection is closed on both sides. */
  readonly closed: Promise<void>
  readonly #target: Target
  readonly #callbacks: ViewerCallbacks
  readonly #request: ClientRequest
  #nextIndex: number
  #isLeaving = false
  #isComplete = false

  constructor(target: Target, user: number, nextIndex: number, callbacks: ViewerCallbacks) {
    this.#target = target
    this.#nextIndex = nextIndex
    this.#callbacks = callbacks
    const { port } = target
    this.#request = request({
      host: '127.0.0.1',
      port,
      path: '/stream',
      agent: false,
      // Keep-alive, as browsers say it.
      headers: { Accept: 'text/event-stream', Connection: 'keep-alive', 'X-User': `user-${user}` },
    })
    this.#request.on('error', (error) => this.#onError(error))
    this.opened = new Promise((resolve, reject) => {
      this.#request.once('error', reject)
      this.#request.once('response', (response) => {
        this.#read(response)
        resolve()
      })
    })
    this.closed = new Promise((resolve) => this.#request.once('close', () => this.#onClose(resolve)))
    this.#request.end()
  }

  /** Leaves with a FIN, and waits until the server has closed too. A reset would cost some variants an error more. */
  leave(): Promise<void> {
    this.#isLeaving = true
    this.#request.socket?.end()
    return this.closed
  }

  #read(response: IncomingMessage): void {
    const { statusCode, headers } = response
    if (statusCode !== 200 || !headers['content-type']?.startsWith('text/event-stream')) {
      this.#callbacks.onFault(new Error(`answered ${statusCode} ${headers['content-type']}`))
    }
    const { onComment } = this.#callbacks
    const parser = createParser({
      onEvent: ({ event = 'message', data }) => this.#check(event, data),
      onComment,
      onError: (error) => this.#callbacks.onFault(error),
    })
    response.setEncoding('utf8')
    response.on('data', (text: string) => parser.feed(text))
    response.on('error', (error) => this.#onError(error))
    response.once('end', () => {
      this.#isComplete = response.complete
    })
  }

  #check(event: string, data: string): void {
    const { eventName, ownEvents } = this.#target
    if (ownEvents.includes(event)) return
    try {
      if (event !== eventName) throw new Error(`an event is called ${event} instead of ${eventName}`)
      checkBenchData(data, this.#nextIndex)
    } catch (error) {
      return this.#callbacks.onFault(error as Error)
    }
    this.#nextIndex += 1
    this.#callbacks.onEvent()
  }

  #onError(error: Error): void {
    if (!this.#isLeaving) this.#callbacks.onFault(error)
  }

  #onClose(resolve: () => void): void {
    const isExpected = this.#target.isEnding ? this.#isComplete : this.#isLeaving
    if (!isExpected) this.#callbacks.onFault(new Error('the stream broke off'))
    resolve()
  }
}
