import { EventSource } from 'eventsource'
import express from 'express'
import {
  defineEvents,
  type OpenSessionOptions,
  openSession,
  type StreamEventsOptions,
  type StreamSource,
  streamEvents,
  streamLimit,
} from 'express-sse-guard'
import { z } from 'zod'
import { open, raw } from './support/clients.js'
import { eventually } from './support/eventually.js'
import { serve } from './support/server.js'

const events = defineEvents({
  n: true,
  failed: ['why'],
  later: z.object({ why: z.string() }).refine(async () => true),
  hanging: z.object({}).refine(() => new Promise<boolean>(() => {})),
})

class SecretError extends Error {}

/** Yields one event, and throws. */
async function* failing() {
  yield { event: 'n', data: 1 }
  throw new SecretError('TOPSECRET')
}

/** A server whose / streams a source to GET and POST, with what became of each stream. */
async function stream(
  options: StreamEventsOptions,
  source: StreamSource = failing,
  sessionOptions: Partial<OpenSessionOptions> = {},
) {
  const app = express()
  const limit = streamLimit({ keyGenerator: () => 'alice' })
  const outcomes: unknown[] = []
  app.all('/', limit, async (req, res) => {
    const session = await openSession(req, res, { events, retry: null, keepAlive: null, ...sessionOptions })
    outcomes.push(await streamEvents(session, source, options).catch((error) => error))
  })
  const served = await serve(app)
  const outcome = async () => {
    await eventually(() => outcomes.length > 0 && limit.open === 0)
    return outcomes[0]
  }
  return { ...served, outcome, outcomes }
}

const FIRST = 'event: n\ndata: 1\n\n'

describe('onError', () => {
  test('gives the last event of a stream whose source has thrown, and the caller gets the error', async () => {
    const onError = jest.fn(() => ({ event: 'failed', data: { why: 'model busy', secret: 1 } }))
    const { url, outcome } = await stream({ onError })
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text]).toEqual([
      true,
      `${FIRST}event: failed\ndata: {"why":"model busy"}\n\n`,
    ])
    expect(await outcome()).toEqual(new SecretError('TOPSECRET'))
    expect(onError.mock.calls).toEqual([[new SecretError('TOPSECRET')]])
  })

  test('may have an async schema, and a final retry goes behind it', async () => {
    const { url } = await stream({ onError: () => ({ event: 'later', data: { why: 'x' } }), end: 'final' })
    const client = await open(url)
    await client.over
    expect(client.text).toBe(`${FIRST}event: later\ndata: {"why":"x"}\n\nretry: 2147483647\n`)
  })

  test.each([
    ['undefined', () => undefined],
    ['an event that is not listed', () => ({ event: 'secret', data: 'TOPSECRET' })],
    ['an event that its rule refuses', () => ({ event: 'failed', data: 'TOPSECRET' })],
  ])('may return %s: then nothing is told', async (_, onError) => {
    const onWithhold = jest.fn()
    const { url, outcome } = await stream({ onError, onWithhold })
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text]).toEqual([true, FIRST])
    expect(await outcome()).toBeInstanceOf(SecretError)
    expect(onWithhold).toHaveBeenCalledTimes(onError() === undefined ? 0 : 1)
  })

  test('that throws is warned of, and the first error is the one that counts', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
    const onError = () => {
      throw new Error('no text for it')
    }
    const { url, outcome } = await stream({ onError })
    const client = await open(url)
    await client.over
    expect(client.text).toBe(FIRST)
    expect(await outcome()).toBeInstanceOf(SecretError)
    expect(warn.mock.calls.map(([text]) => text)).toEqual([expect.stringContaining('no text for it')])
    warn.mockRestore()
  })

  test('is not called when the stream did not fail, or nobody is left to tell', async () => {
    const onError = jest.fn()
    const { url, outcome } = await stream({ onError }, [{ event: 'n', data: 1 }])
    await (await open(url)).over
    expect(await outcome()).toMatchObject({ endedBy: 'source' })

    let fail: (error: Error) => void = () => {}
    const blocked = new Promise<never>((_resolve, reject) => {
      fail = reject
    })
    const left = await stream({ onError }, [{ event: 'n', data: 1 }, blocked])
    const client = await open(left.url)
    await client.until(() => client.text === FIRST)
    client.close()
    expect(await left.outcome()).toMatchObject({ endedBy: 'client' })
    fail(new SecretError())
    expect(onError).not.toHaveBeenCalled()
  })

  test('whose schema never answers does not extend_ttl its client', async () => {
    const { url, outcome } = await stream({ onError: () => ({ event: 'hanging', data: {} }) })
    const client = await open(url)
    await client.until(() => client.text === FIRST)
    client.close()
    expect(await outcome()).toBeInstanceOf(SecretError)
  })

  test('that is async is withheld as invalid, and its rejection harms nothing', async () => {
    const onWithhold = jest.fn()
    const onError = async () => {
      throw new Error('no text for it')
    }
    const { url, outcome } = await stream({ onError: onError as never, onWithhold })
    const client = await open(url)
    await client.over
    expect(client.text).toBe(FIRST)
    expect(await outcome()).toBeInstanceOf(SecretError)
    expect(onWithhold.mock.calls).toEqual([[expect.any(Promise), 'invalid']])
  })

  test('that is no function is refused', async () => {
    const { url, outcome } = await stream({ onError: 'failed' as never })
    await (await open(url)).over
    expect(await outcome()).toMatchObject({
      code: 'ERR_STREAM_BAD_OPTION',
      message: expect.stringContaining('onError'),
    })
  })
})

describe('breakOnError', () => {
  const options = { breakOnError: true, onError: () => ({ event: 'failed', data: { why: 'x' } }) }
  const TEXT = `${FIRST}event: failed\ndata: {"why":"x"}\n\n`

  test.each([
    ['GET', 'close'],
    ['GET', 'keep-alive'],
    ['POST', undefined],
  ])(
    "%s over Connection: %s: Node's fetch reads what was written, and then an error",
    async (method, connection) => {
      const headers = connection === undefined ? {} : { Connection: connection }
      const { url, outcome } = await stream(options, failing, { headers })
      const response = await fetch(url, { method })
      const decoder = new TextDecoder()
      let text = ''
      const reading = (async () => {
        for await (const bytes of response.body ?? []) text += decoder.decode(bytes, { stream: true })
      })()
      await expect(reading).rejects.toThrow()
      expect(text).toBe(TEXT)
      expect(await outcome()).toBeInstanceOf(SecretError)
    },
  )

  test('without it, the same reader sees a clean end', async () => {
    const { url } = await stream({})
    expect(await (await fetch(url)).text()).toBe(FIRST)
  })

  test('a client of node:http sees it too, and an EventSource comes back', async () => {
    const { url, outcomes } = await stream(options)
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text]).toEqual([false, TEXT])

    const source = new EventSource(url)
    try {
      await eventually(() => outcomes.length === 3)
    } finally {
      source.close()
    }
  })

  test('an HTTP/1.0 client, which knows no chunks, gets what was written and nothing else', async () => {
    const { port } = await stream(options)
    const client = await raw(port)
    client.send('GET / HTTP/1.0\r\n\r\n')
    await client.closed
    expect(client.text.split('\r\n\r\n')[1]).toBe(TEXT)
  })

  test('is bounded for a reader that has stopped reading', async () => {
    const large = async function* () {
      yield { event: 'n', data: 'x'.repeat(20_000_000) }
      throw new SecretError()
    }
    const { url, outcome } = await stream(options, large, { stallTimeoutMs: 200 })
    const client = await open(url)
    client.response.pause()
    expect(await outcome()).toMatchObject({})
  })

  test('changes nothing for a stream that does not fail', async () => {
    const { url, outcome } = await stream({ breakOnError: true }, [{ event: 'n', data: 1 }])
    const client = await open(url)
    await client.over
    expect([client.response.complete, client.text]).toEqual([true, FIRST])
    expect(await outcome()).toMatchObject({ endedBy: 'source' })
  })
})
