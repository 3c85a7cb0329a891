// The program of a user, compiled against the packed package: it must compile, and infer these types.
import express from 'express'
import {
  defineEvents,
  MemoryStore,
  openSession,
  problemJson,
  type SlotStore,
  type StreamLimitOptions,
  streamEvents,
  streamLimit,
  type ViewerEvent,
} from 'express-sse-guard'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

const events = defineEvents({ 'build.done': ['url'], clock: true })
export const names: Same<ViewerEvent<typeof events>['event'], 'build.done' | 'clock'> = true

const admin = events.extend({ detail: ['ip'] })
export const adminNames: Same<ViewerEvent<typeof admin>['event'], 'build.done' | 'clock' | 'detail'> = true

const store: SlotStore = new MemoryStore()
const options: StreamLimitOptions = {
  store,
  keyGenerator: (req, res) => res.locals.userId ?? req.get('X-User'),
}
const limit = streamLimit(options)

const app = express()
app.get('/x/:id', limit, async (req, res) => {
  const id: Same<typeof req.params.id, string> = true
  const session = await openSession(req, res, { events, state: { id } })
  const state: Same<typeof session.state, { id: true }> = true
  session.push({ state }, 'clock')
  const { sent, endedBy } = await streamEvents(session, async function* (signal) {
    while (!signal.aborted) yield { event: 'clock', data: Date.now(), id: '1' }
  })
  console.log(sent.toFixed(), endedBy.toUpperCase())
})
app.use('/y', limit)
app.use(problemJson())

// @ts-expect-error A session without a whitelist cannot be opened.
app.get('/z', (req, res) => openSession(req, res, {}))
// @ts-expect-error There is no default for whose stream it is.
streamLimit({ limit: 1 })
