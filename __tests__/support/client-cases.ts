import express, { type Express } from 'express'
import { asText, defineEvents, openSession, type StreamEventsOptions, streamEvents } from 'express-sse-guard'

/** What every client has to read of {@link mixedEventsApp}: name and data. */
export const MIXED_EVENTS = [
  ['json', '{"text":"two\\nlines"}'],
  ['text', '<p>\n  two lines\n</p>'],
  ['message', ''],
  ['message', '[DONE]'],
  ['over', 'null'],
]

/** Streams one event of each kind that clients may read differently, to GET and to POST. */
export function mixedEventsApp(): Express {
  const events = defineEvents({ json: ['text'], text: asText(true), message: asText(true), over: true })
  const app = express()
  app.all('/', async (req, res) => {
    const session = await openSession(req, res, { events })
    await streamEvents(session, [
      { event: 'json', data: { text: 'two\nlines', secret: 7 } },
      { event: 'text', data: '<p>\r\n  two lines\r</p>', id: '7' },
      { data: undefined },
      { event: 'message', data: '[DONE]' },
      { event: 'over', retry: 2_147_483_647 },
    ])
  })
  return app
}

/** Streams `before the error` to GET and to POST, then throws. */
export function failingApp(options: StreamEventsOptions, headers: Record<string, string> = {}): Express {
  const events = defineEvents({ message: true })
  const app = express()
  app.all('/', async (req, res) => {
    const session = await openSession(req, res, { events, headers, retry: 1 })
    async function* source() {
      yield { data: 'before the error', retry: 1 }
      throw new Error('half-way')
    }
    await streamEvents(session, source(), options).catch(() => {})
  })
  return app
}
