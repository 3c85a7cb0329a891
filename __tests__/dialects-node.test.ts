import { EventSource as NpmEventSource } from 'eventsource'
import { createParser } from 'eventsource-parser'
import express from 'express'
import { defineEvents, openSession, streamEvents } from 'express-sse-guard'
import { EventSource as UndiciEventSource } from 'undici'
import { failingApp, MIXED_EVENTS, mixedEventsApp } from './support/client-cases.js'
import { loadDialects, snippets } from './support/dialects.js'
import { ALL_IDS, BAD_IDS, idsApp } from './support/ids.js'
import { serve } from './support/server.js'

type Ask = (url: string, question: string, onText: (text: string) => void) => Promise<void>

test('docs/dialects.md has the snippets that are tested here and in a browser, and no other', () => {
  expect([...snippets.keys()].sort()).toEqual(
    [
      'ai-sdk-client.js',
      'ai-sdk.js',
      'anthropic-client.js',
      'anthropic.js',
      'app.js',
      'broken.js',
      'datastar.html',
      'datastar.js',
      'htmx2.html',
      'htmx2.js',
      'htmx4.html',
      'htmx4.js',
      'login.js',
      'model.js',
      'openai-client.js',
      'openai.js',
      'server.js',
      'turbo.html',
      'turbo.js',
    ].sort(),
  )
})

/** Of each recipe for a model's answers: its client, and how that reports an error event and a broken connection. */
const RECIPES = [
  {
    client: 'openai',
    file: 'openai',
    event: { name: 'APIError', message: 'The answer failed.' },
    broken: { name: 'TypeError', message: 'terminated' },
  },
  {
    client: "the AI SDK's DefaultChatTransport",
    file: 'ai-sdk',
    event: { name: 'Error', message: 'The answer failed.' },
    broken: { name: 'TypeError', message: 'terminated' },
  },
  {
    client: '@anthropic-ai/sdk',
    file: 'anthropic',
    event: { name: 'APIError', message: 'The answer failed.' },
    broken: { name: 'AnthropicError', message: 'terminated' },
  },
]

describe.each(RECIPES)('$client', ({ file, event, broken }) => {
  test('reads an answer to its end', async () => {
    expect(await ask('How do streams end?')).toEqual({ text: 'Streams end well.', error: undefined })
  })

  test('fails with the error event of its protocol, which onError returns', async () => {
    const { text, error } = await ask('Fail.')
    expect(text).toBe('Streams end')
    expectError(error, event)
  })

  test('fails with breakOnError, after the words that were written before', async () => {
    const { text, error } = await ask('Fail.', 'breakOnError: true')
    expect(text).toBe('Streams end')
    expectError(error, broken)
  })

  test('fails with the error event first if both are given', async () => {
    const onError = /onError: .*/.exec(snippets.get(`${file}.js`) ?? '')?.[0]
    const { text, error } = await ask('Fail.', `${onError} breakOnError: true`)
    expect(text).toBe('Streams end')
    expectError(error, event)
  })

  /** Asks as the page's client does, of its server with other options of `streamEvents` instead of `onError`. */
  async function ask(question: string, options?: string) {
    const { app, load } = loadDialects((code, name) =>
      options === undefined || name !== `${file}.js` ? code : code.replace(/onError: .*/, options),
    )
    const { url } = await serve(app)
    let text = ''
    const error = await load<Ask>(`${file}-client.js`, 'ask')(url, question, (more) => {
      text += more
    }).then(
      () => undefined,
      (error: unknown) => error,
    )
    return { text, error }
  }
})

describe('a recipe for a model', () => {
  test.each(['/openai/chat/completions', '/ai-sdk', '/anthropic/v1/messages'])(
    'answers 400 on %s to a body without a question',
    async (path) => {
      const { url } = await serve(loadDialects().app)
      const headers = { 'Content-Type': 'application/json' }
      for (const body of [
        '{"messages":[]}',
        '{}',
        '{"messages":"x"}',
        '{"messages":[null]}',
        '{"messages":[{}]}',
        '',
      ]) {
        const { status } = await fetch(url + path, { method: 'POST', headers, body })
        expect([body, status]).toEqual([body, 400])
      }
      expect((await fetch(url + path, { method: 'POST' })).status).toBe(400)
    },
  )
})

test("the page's login takes a token, a key and a cookie", async () => {
  const { app } = loadDialects((code, file) => (file === 'login.js' ? (snippets.get(file) as string) : code))
  const { url } = await serve(app)
  const open = async (headers: Record<string, string>) => {
    const { status, body } = await fetch(`${url}/turbo`, { headers })
    await body?.cancel()
    return status
  }
  const [cookie] = (await fetch(`${url}/login?user=alice`)).headers.getSetCookie()
  expect(await open({ Cookie: cookie?.split(';')[0] as string })).toBe(200)
  expect(await open({ Authorization: 'Bearer alice' })).toBe(200)
  expect(await open({ 'x-api-key': 'alice' })).toBe(200)
  expect(await open({})).toBe(401)
})

describe('without onError and breakOnError', () => {
  test.each(['openai', 'ai-sdk'])('%s takes half an answer for a whole one', async (file) => {
    const { app, load } = loadDialects((code) => code.replace(/onError: .*/, ''))
    const { url } = await serve(app)
    let text = ''
    await load<Ask>(`${file}-client.js`, 'ask')(url, 'Fail.', (more) => {
      text += more
    })
    expect(text).toBe('Streams end')
  })
})

describe("Node's fetch", () => {
  test.each([
    ['GET, whose connection closes', 'GET', {}],
    ['GET with keep-alive', 'GET', { Connection: 'keep-alive' }],
    ['POST, whose connection is kept', 'POST', {}],
    ['POST with close', 'POST', { Connection: 'close' }],
  ])('fails with breakOnError on a %s', async (_, method, headers) => {
    const { url } = await serve(failingApp({ breakOnError: true }, headers))
    const response = await fetch(url, { method })
    const { text, error } = await readAll(response)
    expect(text).toContain('data: "before the error"\n\n')
    expectError(error, { name: 'TypeError', message: 'terminated' })
  })

  test.each(['GET', 'POST'])('sees a clean end of a %s without it', async (method) => {
    const { url } = await serve(failingApp({}))
    const { text, error } = await readAll(await fetch(url, { method }))
    expect(text).toContain('data: "before the error"\n\n')
    expect(error).toBeUndefined()
  })

  test('reads the snippet of the page to its break', async () => {
    const { url } = await serve(loadDialects().app)
    const { text, error } = await readAll(await fetch(`${url}/broken?question=Fail.`))
    expect(text).toContain('data: " end"\n\n')
    expectError(error, { name: 'TypeError', message: 'terminated' })
  })
})

describe.each([
  ['npm eventsource', NpmEventSource],
  ["undici's EventSource", UndiciEventSource],
])('%s', (_, EventSource) => {
  // Those of npm and of undici differ in their types only.
  const connect = (url: string) => new (EventSource as typeof NpmEventSource)(url)

  test('reads JSON, text of several lines, empty data and the name message', async () => {
    const { url } = await serve(mixedEventsApp())
    const source = connect(url)
    const seen: unknown[] = []
    const isOver = new Promise<void>((resolve) => {
      for (const name of ['json', 'text', 'message', 'over']) {
        source.addEventListener(name, ({ data }) => {
          seen.push([name, data])
          if (name === 'over') resolve()
        })
      }
    })
    await isOver
    source.close()
    expect(seen).toEqual(MIXED_EVENTS)
  })

  test('reconnects after breakOnError', async () => {
    const { url } = await serve(failingApp({ breakOnError: true }))
    const source = connect(url)
    let received = 0
    await new Promise<void>((resolve) => {
      source.addEventListener('message', () => {
        received += 1
        if (received === 3) resolve()
      })
    })
    source.close()
  })

  test('sends every id back as it was sent', async () => {
    const { app, returned } = idsApp()
    const { url } = await serve(app)
    const source = connect(url)
    expect(await returned).toEqual(ALL_IDS)
    source.close()
  })
})

test('eventsource-parser reads JSON, text of several lines, empty data and the name message', async () => {
  const { url } = await serve(mixedEventsApp())
  const seen: unknown[] = []
  const parser = createParser({
    onEvent: ({ event = 'message', data }) => seen.push([event, data]),
  })
  parser.feed((await readAll(await fetch(url, { method: 'POST' }))).text)
  expect(seen).toEqual(MIXED_EVENTS)
})

test.each(BAD_IDS)('an id that would not come back as it was sent is withheld: %j', async (id) => {
  const withheld: unknown[] = []
  const app = express()
  app.get('/', async (req, res) => {
    const session = await openSession(req, res, { events: defineEvents({ message: true }) })
    const onWithhold = (_: unknown, why: string) => withheld.push(why)
    await streamEvents(session, [{ id, data: 1 }, { data: 2 }], { onWithhold })
  })
  const { url } = await serve(app)
  expect((await readAll(await fetch(url))).text).toBe('retry: 2000\ndata: 2\n\n')
  expect(withheld).toEqual(['bad-id'])
})

/** Reads a body to its end or to the error that it ends with. */
async function readAll(response: Response): Promise<{ text: string; error: unknown }> {
  let text = ''
  try {
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk
    return { text, error: undefined }
  } catch (error) {
    return { text, error }
  }
}

/** By the name of its class: errors of Node's fetch are of another realm than the `TypeError` of a jest test. */
function expectError(error: unknown, { name, message }: { name: string; message: string }): void {
  expect(error).toBeDefined()
  expect((error as Error).constructor.name).toBe(name)
  expect((error as Error).message).toContain(message)
}
