import type { AddressInfo } from 'node:net'
import express from 'express'
import { defineEvents, openSession, problemJson, streamEvents, streamLimit } from 'express-sse-guard'
import { RedisStore, type SendCommand } from 'express-sse-guard/redis'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import type { LimiterSettings } from './limiter-process.js'

// The program of a limiter process: one route, one limiter, and word to the parent of what went on.

const settings: LimiterSettings = JSON.parse(process.argv[2] ?? '{}')
const { redisUrl, client = 'node-redis', limit = 5, whenStoreDown = 'local', clockOffsetMs = 0 } = settings
const { leaseMs = 1000, commandTimeoutMs = 300 } = settings
const tell = (message: object) => process.connected && process.send?.(message)

process.on('disconnect', () => process.exit())
process.on('warning', ({ message }) => tell({ warning: message }))
process.on('uncaughtException', (error) => tell({ fault: String(error.stack) }))
process.on('unhandledRejection', (error) => tell({ fault: `Unhandled: ${(error as Error)?.stack ?? error}` }))

if (clockOffsetMs !== 0) {
  const now = Date.now
  Date.now = () => now() + clockOffsetMs
}

function connect(): SendCommand {
  if (client === 'ioredis') {
    const redis = new Redis(redisUrl, { retryStrategy: () => 50 })
    redis.on('error', () => {})
    return (command, ...args) => redis.call(command as string, ...args)
  }
  const redis = createClient({ url: redisUrl, socket: { reconnectStrategy: 50 } })
  redis.on('error', () => {})
  redis.connect().catch(() => {})
  return (...command) => redis.sendCommand(command)
}

const store = new RedisStore({ sendCommand: connect(), leaseMs, commandTimeoutMs })
const limiter = streamLimit({ keyGenerator: (req) => req.get('user'), limit, store, whenStoreDown })
const events = defineEvents({ hello: true })

const app = express()
app.get('/events', limiter, async (req, res) => {
  const session = await openSession(req, res, { events })
  const { endedBy } = await streamEvents(session, (signal) => untilAborted(signal))
  tell({ ending: { user: req.get('user'), stream: req.get('stream'), endedBy } })
})
app.get('/count/:user', async (req, res) => {
  res.json({ count: await limiter.count(req.params.user), open: limiter.open })
})
app.use(problemJson())

async function* untilAborted(signal: AbortSignal) {
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}

const server = app.listen(0, '127.0.0.1', () => tell({ port: (server.address() as AddressInfo).port }))
