import express, { type Express } from 'express'
import { defineEvents, openSession, streamEvents } from 'express-sse-guard'

const PRINTABLE = Array.from({ length: 95 }, (_, index) => String.fromCharCode(0x20 + index))

/** Ids that are let through: each printable character alone (but the space) and between others, and some longer ones. */
export const ALL_IDS: readonly string[] = [
  ...PRINTABLE.slice(1),
  ...PRINTABLE.map((character) => `a${character}b`),
  'with  some   inner spaces',
  `!${PRINTABLE.join('')}`,
  '0123456789abcdef'.repeat(256),
]

const CONTROLS = Array.from({ length: 32 }, (_, code) => `a${String.fromCharCode(code)}b`)

/** Ids that are withheld, as they would not come back as they were sent. */
export const BAD_IDS: readonly string[] = [
  ' ',
  ' leading',
  'trailing ',
  'a\u007fb',
  ...CONTROLS,
  'é',
  'Ã©',
  '😀',
  '\ud83d',
  `${'0123456789abcdef'.repeat(256)}0`,
]

/**
 * A stream that gives the next id at each connection, and ends.
 * `returned` resolves with what came back in Last-Event-ID.
 */
export function idsApp(): { app: Express; returned: Promise<unknown[]> } {
  const events = defineEvents({ message: true })
  const app = express()
  const returned = new Promise<unknown[]>((resolve) => {
    const all: unknown[] = []
    let isFirst = true
    app.get('/', async (req, res) => {
      const session = await openSession(req, res, { events, retry: 1 })
      const id = req.headers['last-event-id']
      if (!isFirst) all.push(id === session.lastId ? id : `${id}, and lastId is ${session.lastId}`)
      isFirst = false
      const next = ALL_IDS[all.length]
      if (next === undefined) resolve([...all])
      // In the event too, as undici ignores a retry alone.
      await streamEvents(session, next === undefined ? [] : [{ id: next, retry: 1, data: 1 }])
    })
  })
  return { app, returned }
}
