import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import express, { type Express } from 'express'
import { openSession, problemJson, type SlotStore, streamEvents, streamLimit } from 'express-sse-guard'
import createError from 'http-errors'
import { type AnswerEnd, answer, speak } from './answer.js'
import { EventBus } from './event-bus.js'
import { hideFaults } from './hide-faults.js'
import { type Caller, callerOf, findCaller, identify } from './identity.js'
import { logIn, logOut } from './login.js'
import { servePage } from './page.js'
import { ProcessLoad } from './process-load.js'
import { questionOf, readQuestion } from './question.js'
import { StreamsHere } from './streams-here.js'
import { watchTraffic } from './traffic.js'
import { usage } from './usage.js'
import { adminEvents, adminNames, answerEvents, viewerEvents, viewerNames } from './viewer-events.js'
import { WithheldCount } from './withheld.js'

/** Options of {@link createApp}. */
export interface DemoOptions {
  /** Milliseconds between two words of an answer. Default: 60. */
  tokenDelayMs?: number
  /** The folder of the page, which a browser gets on `/`. Default: none, and it gets the text that curl gets. */
  publicDir?: string
  /** Where the slots live, if several processes share them. Default: the memory of this process. */
  store?: SlotStore | undefined
}

/** The demo, not listening yet. */
export interface Demo {
  app: Express
  /** Starts the figures that come every second. */
  start(): void
  stop(): void
  /** How many streams are open. */
  readonly open: number
}

/** Builds the demo. The cap is `SSE_MAX_PER_USER`, or 5. */
export function createApp({ tokenDelayMs = 60, publicDir, store }: DemoOptions = {}): Demo {
  const bus = new EventBus()
  /** How each user's latest answer ended: who left it sees here that the work on it ended too. */
  const ends = new Map<string, AnswerEnd & { id: string }>()
  const traffic = watchTraffic(bus)
  const processLoad = new ProcessLoad(bus)
  const limit = streamLimit({ keyGenerator: (_req, res) => callerOf(res).key, store })
  const here = new StreamsHere()
  // What streamLimit has just read, and found to be a number.
  const cap = Number(process.env.SSE_MAX_PER_USER ?? 5)

  async function slotsOf({ name, role, key }: Caller, { localPort: port }: Socket) {
    const used = await limit.count(key)
    const shared = store !== undefined && !limit.isStoreDown
    // No cap is null in JSON, which has no Infinity.
    return { name, role, used, usedHere: here.count(key), cap, shared, pid: process.pid, port }
  }

  const app = express()
  app.disable('x-powered-by')
  // The page looks every second, which would hide all other traffic, so it comes before the watch. Nobody is null: a
  // 401 would be an error in the console of whoever opens the page.
  app.get('/slots', async (req, res) => {
    const caller = findCaller(req)
    if (!caller) return res.json(null)
    const events = caller.role === 'admin' ? adminNames : viewerNames
    res.json({ ...(await slotsOf(caller, req.socket)), events, answered: ends.get(caller.key) })
  })
  app.use(traffic.middleware)

  app.get('/', (req, res, next) => {
    res.vary('Accept')
    if (publicDir && req.accepts('text', 'html') === 'html') return next()
    res.type('text').send(usage(`http://localhost:${req.socket.localPort}`))
  })
  if (publicDir) app.use(servePage(publicDir))

  app.post('/login', express.json(), logIn)
  app.post('/logout', express.json(), logOut)

  app.get('/whoami', identify, async (req, res) => {
    res.json(await slotsOf(callerOf(res), req.socket))
  })

  app.get('/events', identify, limit, (req, res) =>
    here.during(callerOf(res).key, async () => {
      const events = callerOf(res).role === 'admin' ? adminEvents : viewerEvents
      const session = await openSession(req, res, { events })
      const withheld = new WithheldCount()
      const source = (signal: AbortSignal) => withheld.among(bus.subscribe(signal))
      await streamEvents(session, source, { onWithhold: withheld.add })
    }),
  )

  // The body comes before the slot: one is held while there is an answer, and not while somebody types.
  app.post('/ask', identify, readQuestion, limit, (req, res) =>
    here.during(callerOf(res).key, async () => {
      const { name, key } = callerOf(res)
      const used = await limit.count(key)
      const id = randomUUID()
      const text = answer(questionOf(res), { traffic: traffic.counts, used, cap, open: limit.open })
      const session = await openSession(req, res, { events: answerEvents, headers: { 'X-Answer-Id': id } })
      bus.publish({ event: 'question.asked', data: { askedBy: name, question: questionOf(res) } })
      await streamEvents(
        session,
        (signal) =>
          speak(text, {
            signal,
            delayMs: tokenDelayMs,
            onEnd: (end) => {
              ends.delete(key)
              ends.set(key, { id, ...end })
              if (ends.size > 1000) ends.delete([...ends.keys()][0] ?? '')
              bus.publish({ event: 'answer.ended', data: { ...end, askedBy: name } })
            },
          }),
        { end: 'final' },
      )
    }),
  )

  app.use((_req, _res, next) => next(createError(404, 'There is nothing here. GET / says what there is.')))
  app.use(problemJson())
  app.use(hideFaults)
  app.use(problemJson())

  return {
    app,
    start: () => processLoad.start(),
    stop: () => processLoad.stop(),
    get open() {
      return limit.open
    },
  }
}
