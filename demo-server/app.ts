import express, { type Express } from 'express'
import { openSession, problemJson, streamEvents, streamLimit } from 'express-sse-guard'
import createError from 'http-errors'
import { answer, speak } from './answer.js'
import { EventBus } from './event-bus.js'
import { hideFaults } from './hide-faults.js'
import { callerOf, identify } from './identity.js'
import { ProcessLoad } from './process-load.js'
import { questionOf, readQuestion } from './question.js'
import { watchTraffic } from './traffic.js'
import { usage } from './usage.js'
import { adminEvents, answerEvents, viewerEvents } from './viewer-events.js'

/** Options of {@link createApp}. */
export interface DemoOptions {
  /** Milliseconds between two words of an answer. Default: 60. */
  tokenDelayMs?: number
}

/** The demo, not listening yet. */
export interface Demo {
  app: Express
  /** Starts the figures that come every second. */
  start(): void
  stop(): void
}

/** Builds the demo. The cap is `SSE_MAX_PER_USER`, or 5. */
export function createApp({ tokenDelayMs = 60 }: DemoOptions = {}): Demo {
  const bus = new EventBus()
  const traffic = watchTraffic(bus)
  const processLoad = new ProcessLoad(bus)
  const limit = streamLimit({ keyGenerator: (_req, res) => callerOf(res).key })
  // What streamLimit has just read, and found to be a number.
  const cap = Number(process.env.SSE_MAX_PER_USER ?? 5)

  const app = express()
  app.disable('x-powered-by')
  app.use(traffic.middleware)

  app.get('/', (req, res) => {
    res.type('text').send(usage(`http://localhost:${req.socket.localPort}`))
  })

  app.get('/whoami', identify, async (_req, res) => {
    const { name, role, key } = callerOf(res)
    // No cap is null here, as JSON has no Infinity.
    res.json({ name, role, used: await limit.count(key), cap })
  })

  app.get('/events', identify, limit, async (req, res) => {
    const events = callerOf(res).role === 'admin' ? adminEvents : viewerEvents
    const session = await openSession(req, res, { events })
    await streamEvents(session, (signal) => bus.subscribe(signal))
  })

  // The body comes before the slot: one is held while there is an answer, and not while somebody types.
  app.post('/ask', identify, readQuestion, limit, async (req, res) => {
    const { name, key } = callerOf(res)
    const used = await limit.count(key)
    const text = answer(questionOf(res), { traffic: traffic.counts, used, cap, open: limit.open })
    const session = await openSession(req, res, { events: answerEvents })
    await streamEvents(
      session,
      (signal) =>
        speak(text, {
          signal,
          delayMs: tokenDelayMs,
          onEnd: (end) => bus.publish({ event: 'answer.ended', data: { ...end, askedBy: name } }),
        }),
      { end: 'final' },
    )
  })

  app.use((_req, _res, next) => next(createError(404, 'There is nothing here. GET / says what there is.')))
  app.use(problemJson())
  app.use(hideFaults)
  app.use(problemJson())

  return { app, start: () => processLoad.start(), stop: () => processLoad.stop() }
}
