import { join } from 'node:path'
import { setImmediate, setTimeout } from 'node:timers/promises'
import express from 'express'
import { defineEvents, openSession, problemJson, streamEvents, streamLimit } from 'express-sse-guard'
import type { Browser, Page } from 'playwright-core'
import { findChromium, launchChromium } from './support/browser.js'
import { startDemo } from './support/demo-client.js'
import { serve } from './support/server.js'

const path = findChromium()
if (!path && process.env.CI) throw new Error('There is no Chromium, and with CI set reloads must be tested.')
if (!path) process.stderr.write('Left out: the tests of reloads in a browser, as there is no Chromium.\n')
const describeInBrowser = path ? describe : describe.skip

const RELOADS = 40

/**
 * Opens five streams, and reloads itself as soon as each has had an event or has failed. In the end `refusedReloads` is the
 * number of loads of which a stream was refused.
 */
const BUSY_PAGE = `<!doctype html>
<script>
  const settle = (source) => new Promise((resolve) => {
    source.onmessage = () => resolve(true)
    source.onerror = () => resolve(false)
  })
  const streams = Array.from({ length: 5 }, () => settle(new EventSource('/events')))
  Promise.all(streams).then((admitted) => {
    const { loads = 0, refused = 0 } = sessionStorage
    sessionStorage.loads = Number(loads) + 1
    sessionStorage.refused = Number(refused) + Number(admitted.includes(false))
    if (loads < ${RELOADS}) location.reload()
    else globalThis.refusedReloads = Number(sessionStorage.refused)
  })
</script>`

describeInBrowser('a page at the cap that is reloaded in Chromium while events flow', () => {
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

  test(`is refused in none of ${RELOADS} reloads`, async () => {
    await page.goto((await serve(busyApp())).url)
    await page.waitForFunction('globalThis.refusedReloads !== undefined')
    expect(await page.evaluate('refusedReloads')).toBe(0)
  })

  test('is refused in none of 10 reloads of the demo', async () => {
    const demo = await startDemo({ publicDir: join(__dirname, '../demo-server/public') })
    const leave = new AbortController()
    const traffic = keepBusy(demo.url, leave.signal)
    try {
      await page.goto(demo.url)
      await page.getByLabel('Name').fill('alice')
      await page.getByRole('button', { name: 'Log in' }).click()
      for (let load = 0; load <= 10; load += 1) {
        if (load > 0) await page.reload()
        for (let stream = 1; stream <= 5; stream += 1) {
          await page.getByRole('button', { name: 'Open a stream' }).click()
          const card = page.getByRole('article', { name: `Stream ${stream}`, exact: true })
          await card.getByText(/^(Open|Refused)$/).waitFor()
          expect(await card.getByText('Open', { exact: true }).count()).toBe(1)
        }
      }
    } finally {
      leave.abort()
      await traffic
    }
  })
})

/**
 * Five streams for one user. Each begins with many small events, each in a turn of its own, as when a client catches up. Under
 * `Connection: keep-alive` Chromium then mostly drains at least one of them after a reload, instead of closing it: 5 to 40 of
 * 40 reloads were refused.
 */
function busyApp() {
  const events = defineEvents({ message: true })
  const limit = streamLimit({ keyGenerator: () => 'alice', limit: 5 })
  const app = express()
  app.get('/', (_req, res) => void res.send(BUSY_PAGE))
  app.get('/events', limit, async (req, res) => {
    const session = await openSession(req, res, { events })
    await streamEvents(session, async function* (signal) {
      for (let count = 0; !signal.aborted; count += 1) {
        yield { data: count }
        await (count < 300 ? setImmediate() : setTimeout(500, undefined, { signal }))
      }
    })
  })
  app.use(problemJson())
  return app
}

/** Asks the demo for something, one request after the other: each is an event for its viewers. */
async function keepBusy(url: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await (await fetch(`${url}/nothing-here`)).text()
    // Leaves the page the time to draw.
    await setTimeout(10)
  }
}
