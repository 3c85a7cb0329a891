import { type IncomingMessage, type RequestOptions, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { createParser, type EventSourceMessage } from 'eventsource-parser'
import { readAtBlankLines, readLineByLine } from './careless-parsers.js'

const sockets = new Set<Socket>()
const clients = new Set<StreamClient>()

afterEach(() => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  const read = [...clients]
  clients.clear()
  // Every stream of every test, as it arrived.
  for (const { text, events, isEventStream } of read) {
    if (!isEventStream) continue
    const data = events.map((event) => event.data)
    expect(readAtBlankLines(text)).toEqual(data)
    expect(readLineByLine(text)).toEqual(data.flatMap((lines) => lines.split('\n')))
  }
})

/** A client that keeps a stream open on a connection of its own and parses what arrives. */
export class StreamClient {
  text = ''
  readonly events: EventSourceMessage[] = []
  readonly retries: number[] = []
  /** How many chunks of the body Node delivered. */
  chunks = 0
  /** Resolves when nothing more will arrive, however that came about. */
  readonly over: Promise<void>
  #waiting: (() => void)[] = []

  constructor(readonly response: IncomingMessage) {
    clients.add(this)
    const parser = createParser({
      onEvent: (event) => this.events.push(event),
      onRetry: (retry) => this.retries.push(retry),
    })
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      this.chunks += 1
      this.text += text
      parser.feed(text)
      this.#wake()
    })
    response.on('error', () => {})
    this.over = new Promise((resolve) => {
      response.on('close', () => {
        resolve()
        this.#wake()
      })
    })
  }

  get isEventStream(): boolean {
    return this.response.headers['content-type']?.startsWith('text/event-stream') ?? false
  }

  get status() {
    return this.response.statusCode
  }

  /** Waits until the condition holds; fails when the stream is over before that. */
  async until(condition: (client: this) => boolean): Promise<this> {
    while (!condition(this)) {
      if (this.response.closed) throw new Error(`The stream ended first, after ${JSON.stringify(this.text)}`)
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    return this
  }

  close(): void {
    this.response.socket.destroy()
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}

/** Opens a stream and resolves when its head has arrived. */
export function open(url: string, options: RequestOptions & { body?: string } = {}): Promise<StreamClient> {
  return new Promise((resolve, reject) => {
    const req = request(url, { agent: false, ...options })
    req.on('error', reject)
    req.on('socket', (socket) => sockets.add(socket))
    req.on('response', (response) => {
      req.removeListener('error', reject)
      req.on('error', () => {})
      resolve(new StreamClient(response))
    })
    req.end(options.body)
  })
}

/** A bare TCP connection, for what no HTTP client would send. */
export class RawClient {
  text = ''
  readonly closed: Promise<void>

  constructor(readonly socket: Socket) {
    sockets.add(socket)
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => {
      this.text += text
    })
    socket.on('error', () => {})
    this.closed = new Promise((resolve) => socket.on('close', () => resolve()))
  }

  send(text: string): this {
    this.socket.write(text, 'latin1')
    return this
  }

  destroy(): void {
    this.socket.destroy()
  }
}

/** Connects without sending anything. */
export function raw(port: number): Promise<RawClient> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', reject)
    socket.once('connect', () => resolve(new RawClient(socket)))
  })
}

/** The bytes of a GET, with extra header lines. */
export function get(path: string, ...lines: string[]): string {
  return [`GET ${path} HTTP/1.1`, 'Host: test', ...lines, '', ''].join('\r\n')
}
