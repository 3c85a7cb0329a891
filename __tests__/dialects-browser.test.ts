import express, { type Express } from 'express'
import type { Browser, Page } from 'playwright-core'
import { findChromium, launchChromium } from './support/browser.js'
import { failingApp, MIXED_EVENTS, mixedEventsApp } from './support/client-cases.js'
import { loadDialects } from './support/dialects.js'
import { ALL_IDS, idsApp } from './support/ids.js'
import { serve } from './support/server.js'

const path = findChromium()
if (!path && process.env.CI)
  throw new Error('There is no Chromium, and with CI set the dialects must be tested.')
if (!path) process.stderr.write('Left out: the tests of clients in a browser, as there is no Chromium.\n')
const describeInBrowser = path ? describe : describe.skip

describeInBrowser('in Chromium', () => {
  let browser: Browser
  let page: Page

  beforeAll(async () => {
    browser = await launchChromium(path as string)
  })

  beforeEach(async () => {
    page = await browser.newPage()
    page.setDefaultTimeout(30_000)
  })

  afterEach(() => page.close())

  afterAll(() => browser?.close())

  /** Opens an empty page of the application's own origin. */
  async function visit(app: Express): Promise<void> {
    const { url } = await serve(
      express()
        .get('/page', (_req, res) => void res.send('<!doctype html>'))
        .use(app),
    )
    await page.goto(`${url}/page`)
  }

  describe('the page of the recipe for', () => {
    // A line break stays between the elements only if the client has put the data lines together again.
    const SCORE = /^\s*<b>1<\/b>\s*\n\s*<i>:<\/i>\s*\n\s*<b>0<\/b>\s*$/

    test('htmx 2 shows HTML of several lines, and closes its EventSource', async () => {
      await open('htmx2.html', 'htmx:sseClose')
      expect(await page.evaluate('htmx.version')).toMatch(/^2\./)
      expect(await page.locator('p').innerHTML()).toMatch(SCORE)
      expect(await page.evaluate('streamClosed')).toMatchObject({ type: 'message' })
    })

    test('htmx 4 shows HTML of several lines, and ends its stream', async () => {
      await open('htmx4.html', 'htmx:sse:close')
      expect(await page.evaluate('htmx.version')).toMatch(/^4\./)
      expect(await page.locator('p').innerHTML()).toMatch(SCORE)
      expect(await page.evaluate('streamClosed')).toMatchObject({ reason: 'message' })
    })

    test('Turbo shows HTML of several lines', async () => {
      await open('turbo.html')
      expect(await page.locator('#score').innerHTML()).toMatch(SCORE)
    })

    test('Datastar shows HTML of several lines', async () => {
      await open('datastar.html')
      expect(await page.locator('#score').innerHTML()).toMatch(SCORE)
    })

    /** Opens the page, and waits for the score and for the event, whose detail is then in the variable `streamClosed`. */
    async function open(file: string, closeEvent?: string): Promise<void> {
      await page.addInitScript(`addEventListener('${closeEvent}', ({ detail }) => {
        globalThis.streamClosed = { type: detail.type, reason: detail.reason }
      })`)
      const { url } = await serve(loadDialects().app)
      await page.goto(`${url}/${file}`)
      await page.locator('b', { hasText: '0' }).waitFor()
      if (closeEvent) await page.waitForFunction('globalThis.streamClosed')
    }
  })

  describe('@microsoft/fetch-event-source', () => {
    /** Reads a stream to its end, or to the error that it reports. */
    const read = (url: string) =>
      page.evaluate(`(async () => {
        const { fetchEventSource } = await import('/vendor/fetch-event-source/index.js')
        const seen = []
        const onmessage = ({ event, data }) => void seen.push([event || 'message', data])
        const onerror = (error) => { throw error }
        const error = await fetchEventSource('${url}', { method: 'POST', onmessage, onerror }).catch(String)
        return { seen, error }
      })()`)

    test('reads JSON, text of several lines, empty data and the name message', async () => {
      await visit(loadDialects().app.use('/mixed', mixedEventsApp()))
      expect(await read('/mixed')).toEqual({ seen: MIXED_EVENTS, error: undefined })
    })

    test('fails with breakOnError, after what was written before', async () => {
      await visit(loadDialects().app.use('/failing', failingApp({ breakOnError: true })))
      const seen = [['message', '"before the error"']]
      expect(await read('/failing')).toEqual({ seen, error: expect.stringContaining('TypeError') })
    })

    test('sees a clean end without it', async () => {
      await visit(loadDialects().app.use('/failing', failingApp({})))
      const seen = [['message', '"before the error"']]
      expect(await read('/failing')).toEqual({ seen, error: undefined })
    })
  })

  describe('fetch', () => {
    const read = (method: string) =>
      page.evaluate(`(async () => {
        let text = ''
        try {
          const { body } = await fetch('/', { method: '${method}' })
          const reader = body.pipeThrough(new TextDecoderStream()).getReader()
          for (let chunk; (chunk = await reader.read()) && !chunk.done; ) text += chunk.value
          return { text }
        } catch (error) {
          return { text, error: String(error) }
        }
      })()`)
    const text = expect.stringContaining('data: "before the error"\n\n')

    test.each([
      ['GET, whose connection closes', 'GET', {}],
      ['GET with keep-alive', 'GET', { Connection: 'keep-alive' }],
      ['POST, whose connection is kept', 'POST', {}],
    ])('fails with breakOnError on a %s', async (_, method, headers) => {
      await visit(failingApp({ breakOnError: true }, headers))
      expect(await read(method)).toEqual({ text, error: expect.stringContaining('TypeError') })
    })

    test.each(['GET', 'POST'])('sees a clean end of a %s without it', async (method) => {
      await visit(failingApp({}))
      expect(await read(method)).toEqual({ text })
    })

    test('sends every id back as it was sent', async () => {
      const { app, returned } = idsApp()
      await visit(app)
      await page.evaluate(`(async () => {
        let headers = {}
        for (let count = 0; count <= ${ALL_IDS.length}; count += 1) {
          const text = await (await fetch('/', { headers })).text()
          const id = /^id: (.*)$/m.exec(text)?.[1]
          headers = { 'Last-Event-ID': id }
        }
      })()`)
      expect(await returned).toEqual(ALL_IDS)
    })
  })

  describe('EventSource', () => {
    test('reads JSON, text of several lines, empty data and the name message', async () => {
      await visit(mixedEventsApp())
      const seen = await page.evaluate(`new Promise((resolve) => {
        const source = new EventSource('/')
        const seen = []
        for (const name of ['json', 'text', 'message', 'over']) {
          source.addEventListener(name, ({ data }) => {
            seen.push([name, data])
            if (name !== 'over') return
            source.close()
            resolve(seen)
          })
        }
      })`)
      expect(seen).toEqual(MIXED_EVENTS)
    })

    test('reconnects after breakOnError', async () => {
      await visit(failingApp({ breakOnError: true }))
      await page.evaluate(`new Promise((resolve) => {
        const source = new EventSource('/')
        let received = 0
        source.onmessage = () => {
          received += 1
          if (received < 3) return
          source.close()
          resolve()
        }
      })`)
    })

    test('sends every id back as it was sent', async () => {
      const { app, returned } = idsApp()
      await visit(app)
      await page.evaluate(`void (globalThis.source = new EventSource('/'))`)
      expect(await returned).toEqual(ALL_IDS)
    })
  })
})
