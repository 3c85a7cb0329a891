import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo, Server as NetServer } from 'node:net'
import type { OpenStreams } from './open-streams.js'

/** One way to write the server, in a module that exports it as `variant`. */
export interface Variant {
  /** What its events are called on the wire. */
  eventName: string
  /** Events of its own that a reader skips. */
  ownEvents?: readonly string[]
  /** Starts a server that streams at `GET /stream`; the header `x-user` says whose stream it is. */
  start(streams: OpenStreams, options: VariantOptions): Promise<RunningVariant>
}

export interface VariantOptions {
  /** Milliseconds between keep-alive comments. Default: that of the variant. */
  keepAliveMs?: number
  /** How many events an answer has. Default: none; only variants that stream answers look at it. */
  tokens?: number
}

export interface RunningVariant {
  port: number
  /** How many streams it has open, if it does not add each to the OpenStreams. */
  countStreams?: () => number
  /** How many slots its limiter holds, if it has one. */
  countSlots?: () => number
  close(): void
}

/** Serves on a free port of the loopback interface. */
export function serveHttp(listener: RequestListener): Promise<RunningVariant> {
  return listen(createServer(listener))
}

export async function listen(server: Server | NetServer): Promise<RunningVariant> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve))
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      if ('closeAllConnections' in server) server.closeAllConnections()
    },
  }
}
