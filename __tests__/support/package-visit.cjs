'use strict'
const { once } = require('node:events')
const { setImmediate } = require('node:timers/promises')

/**
 * Opens an application on the packed package and visits it: a finite stream, an open one, and one too many. The
 * parts of the package are given, because they may come from two copies of it.
 */
module.exports = async function visit(express, parts) {
  const { defineEvents, openSession, problemJson, streamEvents, streamLimit } = parts
  const events = defineEvents({ tick: ['n'] })
  const limit = streamLimit({ limit: 1, keyGenerator: (req) => req.get('X-User') })
  const app = express()
  app.get('/finite', limit, async (req, res) => {
    const session = await openSession(req, res, { events })
    const source = [{ event: 'tick', data: { n: 1, secret: 2 } }, { event: 'hidden' }]
    await streamEvents(session, source, { end: 'final' })
  })
  app.get('/open', limit, async (req, res) => {
    const session = await openSession(req, res, { events })
    await streamEvents(session, async function* (signal) {
      yield { event: 'tick', data: { n: 2 } }
      await once(signal, 'abort')
    })
  })
  app.use(problemJson())

  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const get = (path, user) =>
    fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: { 'X-User': user } })

  const finite = await get('/finite', 'ann')
  const text = await finite.text()
  const opened = await get('/open', 'bob')
  const refused = await get('/open', 'bob')
  const problem = await refused.json()
  const whileOpen = limit.open

  server.closeAllConnections()
  server.close()
  await once(server, 'close')
  for (let turns = 0; limit.open > 0 && turns < 100; turns++) await setImmediate()
  return {
    finite: { status: finite.status, type: finite.headers.get('Content-Type'), text },
    opened: opened.status,
    refused: { status: refused.status, type: refused.headers.get('Content-Type'), code: problem.code },
    open: [whileOpen, limit.open],
  }
}
