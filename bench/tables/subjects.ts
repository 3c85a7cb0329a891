import type { SubjectConfig } from '../lib/subject.js'

/** Every variant, under the name that the reports give it. */
export const guardEvents = { name: 'streamEvents', module: 'variants/guard-events' } as const
export const guardPush = { name: 'session.push', module: 'variants/guard-push' } as const
export const guardChannel = { name: 'Channel over our sessions', module: 'variants/guard-channel' } as const
export const guardAnswer = { name: 'streamEvents', module: 'variants/guard-answer' } as const
export const betterSse = { name: 'better-sse', module: 'variants/better-sse' } as const
export const betterSseChannel = {
  name: 'Channel over stock sessions',
  module: 'variants/better-sse-channel',
} as const
export const bareExpress = { name: 'bare Express', module: 'variants/express' } as const
export const nodeHttp = { name: 'node:http', module: 'variants/node-http' } as const
export const nodeHttpAnswer = { name: 'raw res.write', module: 'variants/node-http-answer' } as const
export const nodeNet = { name: 'node:net', module: 'variants/node-net' } as const
export const fastifySse = { name: '@fastify/sse', module: 'peers/fastify-sse' } as const
export const hono = { name: 'hono', module: 'peers/hono' } as const
export const expressSse = { name: 'express-sse', module: 'peers/express-sse' } as const
export const trpc = { name: 'tRPC', module: 'peers/trpc' } as const

/** All that send events to open streams, one stream at a time. */
export const streaming: readonly SubjectConfig[] = [
  guardEvents,
  guardPush,
  betterSse,
  fastifySse,
  hono,
  expressSse,
  trpc,
  bareExpress,
  nodeHttp,
  nodeNet,
]
