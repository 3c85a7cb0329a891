import { join } from 'node:path'
import { source as axe } from 'axe-core'
import type { Browser, BrowserContext, BrowserContextOptions, Locator, Page } from 'playwright-core'
import { createApp, type DemoOptions } from '../demo-server/app.js'
import { findChromium, launchChromium } from './support/browser.js'
import { open } from './support/clients.js'
import { deferred } from './support/deferred.js'
import { startDemo } from './support/demo-client.js'
import { eventually } from './support/eventually.js'
import { FaultyStore } from './support/faulty-store.js'
import { serve } from './support/server.js'

const PUBLIC_DIR = join(__dirname, '../demo-server/public')
const ALICE = { Authorization: 'Bearer viewer:alice' }
const BOB = { Authorization: 'Bearer viewer:bob' }
const HTML = { Accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }

const path = findChromium()
if (!path && process.env.CI) throw new Error('There is no Chromium, and with CI set the page must be tested.')
if (!path)
  process.stderr.write('Left out: the tests of the demo page in a browser, as there is no Chromium.\n')
const describeInBrowser = path ? describe : describe.skip

describe('the server part of the page', () => {
  test('gives a browser the page and curl the text', async () => {
    const demo = await startDemo({ publicDir: PUBLIC_DIR })
    const page = await demo.get('/', HTML)
    expect(page.headers.get('Content-Type')).toContain('text/html')
    expect(page.headers.get('Cache-Control')).toBe('no-cache')
    expect(page.headers.get('Content-Security-Policy')).toContain("default-src 'self'")
    expect(page.headers.get('Vary')).toContain('Accept')
    const ETag = page.headers.get('ETag') ?? ''
    // As a browser does. Node's fetch would ask for a whole new one instead.
    const again = await demo.get('/', { ...HTML, 'If-None-Match': ETag, 'Cache-Control': 'max-age=0' })
    expect(again.status).toBe(304)

    const text = await demo.get('/')
    expect(text.headers.get('Content-Type')).toContain('text/plain')
    expect(await text.text()).toContain('curl -N')
  })

  test('logs in by a cookie that no script and no other site can use, as the same user as with curl', async () => {
    const demo = await startDemo({ publicDir: PUBLIC_DIR })
    const response = await post(`${demo.url}/login`, { name: 'alice', role: 'viewer' })
    expect(response.status).toBe(204)
    const [cookie = ''] = response.headers.getSetCookie()
    expect(cookie).toMatch(/; HttpOnly/)
    expect(cookie).toMatch(/; SameSite=Strict/)

    await demo.watch(ALICE)
    const Cookie = `other=1; ${cookie.split(';')[0]}`
    expect(await demo.whoami({ Cookie })).toMatchObject({ name: 'alice', role: 'viewer', used: 1, cap: 5 })
    // The header is what the caller said last and most clearly.
    expect(await demo.whoami({ Cookie, ...BOB })).toMatchObject({ name: 'bob' })
    expect((await demo.get('/whoami', { Cookie, Authorization: 'Bearer nobody' })).status).toBe(401)

    const [gone = ''] = (await post(`${demo.url}/logout`, {})).headers.getSetCookie()
    expect(gone).toMatch(/^demo-login=;.*Expires=Thu, 01 Jan 1970/)
  })

  test.each([
    [{ name: '', role: 'viewer' }, 400],
    [{ name: 'a b', role: 'viewer' }, 400],
    [{ name: 'a'.repeat(33), role: 'viewer' }, 400],
    [{ name: 'alice; Path=/x', role: 'viewer' }, 400],
    [{ name: 7, role: 'viewer' }, 400],
    [{ role: 'viewer' }, 400],
    [{ name: 'alice', role: 'root' }, 400],
    [{ name: 'alice' }, 400],
    [[], 400],
  ])('does not log in %j', async (body, status) => {
    const demo = await startDemo({ publicDir: PUBLIC_DIR })
    const response = await post(`${demo.url}/login`, body)
    expect(response.status).toBe(status)
    expect(response.headers.getSetCookie()).toEqual([])
    expect(response.headers.get('Content-Type')).toBe('application/problem+json')
  })

  test.each(['/login', '/logout'])('takes no form on %s, which another site could send', async (route) => {
    const demo = await startDemo({ publicDir: PUBLIC_DIR })
    const response = await fetch(demo.url + route, {
      method: 'POST',
      body: new URLSearchParams({ name: 'mallory', role: 'viewer' }),
    })
    expect(response.status).toBe(415)
    expect(response.headers.getSetCookie()).toEqual([])
  })

  test('tells what was withheld on the stream itself: a viewer the number, an admin the names', async () => {
    const demo = await startDemo({ publicDir: PUBLIC_DIR })
    const viewer = await demo.watch(ALICE)
    const admin = await demo.watch({ Authorization: 'Bearer admin:root' })
    await demo.get('/nothing-here')
    await (await demo.ask(JSON.stringify({ question: 'Busy?' }), BOB)).until(({ text }) =>
      text.includes('token'),
    )

    await viewer.until(({ text }) => text.includes('data: {"count":2}'))
    await admin.until(({ text }) => text.includes('data: {"count":1,"names":{"question.asked":1}}'))
    expect(viewer.text).toContain('event: events.withheld\ndata: {"count":1}\n')
    expect(viewer.text).not.toMatch(/request\.detail|question\.asked|names/)
    expect(admin.text).not.toContain('Busy?')
  })
})

describeInBrowser('the page', () => {
  let browser: Browser
  let contexts: BrowserContext[] = []
  /** What the browser complained of: an exception, or a breach of the security policy. */
  let complaints: string[] = []

  beforeAll(async () => {
    browser = await launchChromium(path as string)
  })

  afterEach(async () => {
    await Promise.all(contexts.map((context) => context.close()))
    contexts = []
    const all = complaints
    complaints = []
    expect(all).toEqual([])
  })

  afterAll(() => browser?.close())

  /** A browser with a profile of its own. */
  async function newContext(options: BrowserContextOptions = {}): Promise<BrowserContext> {
    const context = await browser.newContext({ reducedMotion: 'reduce', ...options })
    context.setDefaultTimeout(30_000)
    contexts.push(context)
    return context
  }

  async function newTab(context: BrowserContext, url: string): Promise<Page> {
    const page = await context.newPage()
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('console', (message) => {
      // A status of 400 or more is reported as an error too, and here it is none.
      if (message.type() === 'error' && !/status of 4\d\d|ERR_/.test(message.text())) {
        complaints.push(message.text())
      }
    })
    await page.goto(url)
    return page
  }

  /** Holds up the requests of a page for these addresses, until the function that it gives is called. */
  async function hold(page: Page, addresses: string): Promise<() => void> {
    const { promise, resolve } = deferred()
    await page.route(addresses, async (route) => {
      await promise
      await route.continue().catch(() => {})
    })
    return resolve
  }

  async function logIn(page: Page, role: 'viewer' | 'admin', name = 'alice'): Promise<void> {
    await page.getByLabel('Name').fill(name)
    await page.getByRole('radio', { name: role }).check()
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByRole('button', { name: 'Log out' }).waitFor()
  }

  /** The demo, and somebody who has just logged in on its page. */
  async function visit(
    role: 'viewer' | 'admin' = 'viewer',
    options: DemoOptions & { context?: BrowserContextOptions } = {},
  ) {
    const { context: contextOptions, ...demoOptions } = options
    const demo = await startDemo({ publicDir: PUBLIC_DIR, ...demoOptions })
    const context = await newContext(contextOptions)
    const page = await newTab(context, demo.url)
    await logIn(page, role)
    return { demo, context, page }
  }

  describe('at the login', () => {
    test('says that it is a demo and that production must not do it, and shows a mistake beside the field', async () => {
      const demo = await startDemo({ publicDir: PUBLIC_DIR })
      const page = await newTab(await newContext(), demo.url)
      await page.getByText("This is a demo's login.").waitFor()
      await page.getByText('Production must not do that.').waitFor()

      const name = page.getByRole('textbox', { name: 'Name' })
      for (const wrong of ['', 'a b', 'ä']) {
        await name.fill(wrong)
        await page.getByRole('button', { name: 'Log in' }).click()
        await page.getByText('A name has 1 to 32 letters').waitFor()
        expect(await name.getAttribute('aria-invalid')).toBe('true')
        expect(await name.getAttribute('aria-describedby')).toContain('name-error')
        await page.waitForFunction(() => globalThis.document.activeElement?.id === 'name')
      }
    })

    test('opens without a word in the console', async () => {
      const demo = await startDemo({ publicDir: PUBLIC_DIR })
      const page = await (await newContext()).newPage()
      const words: string[] = []
      page.on('console', (message) => words.push(message.text()))
      await page.goto(demo.url)
      await page.getByText("This is a demo's login.").waitFor()
      expect(words).toEqual([])
    })

    test('says that it loads until the server has answered, and blames no connections if it is slow', async () => {
      const demo = await startDemo({ publicDir: PUBLIC_DIR })
      const page = await (await newContext()).newPage()
      const answer = await hold(page, '**/slots')
      await page.goto(demo.url)
      await page.getByText('Loading…').waitFor()
      const notice = page.getByRole('alert').filter({ hasText: 'The server has not answered for 3 seconds' })
      await notice.getByText('It may be busy').waitFor()
      answer()
      await page.getByLabel('Name').waitFor()
      await page.getByText('Loading…').waitFor({ state: 'hidden' })
      await notice.waitFor({ state: 'hidden' })
    })

    test('knows the user again after a reload, and no more after the logout', async () => {
      const { page } = await visit('admin')
      await page.getByText('Logged in as alice admin').waitFor()
      await page.reload()
      await page.getByText('Logged in as alice admin').waitFor()
      await openStreams(page, 1)
      await page.getByRole('button', { name: 'Log out' }).click()
      await page.getByRole('textbox', { name: 'Name' }).waitFor()
      await page.reload()
      await page.getByRole('textbox', { name: 'Name' }).waitFor()
      expect(await page.getByRole('button', { name: 'Log out' }).count()).toBe(0)
    })

    test('is done by keyboard alone, and so is the rest', async () => {
      const demo = await startDemo({ publicDir: PUBLIC_DIR })
      const page = await newTab(await newContext(), demo.url)
      await page.getByRole('textbox', { name: 'Name' }).waitFor()
      await page.keyboard.press('Tab')
      await page.keyboard.type('alice')
      await page.keyboard.press('Enter')
      // The focus is put on the first thing there is to do.
      await focused(page, 'Open a stream')
      await page.keyboard.press('Enter')
      await state(page, 1, 'Open')
      await page.keyboard.press('Tab')
      await page.keyboard.press('Tab')
      await focused(page, 'Close stream 1')
      // Held, it is one press still, also of the button that has the focus then.
      await page.keyboard.down('Enter')
      await focused(page, 'Open again stream 1')
      await page.keyboard.down('Enter')
      await page.keyboard.up('Enter')
      await state(page, 1, 'Closed')
      await focused(page, 'Open again stream 1')
      await page.keyboard.press('Space')
      await state(page, 1, 'Open')
    })
  })

  describe('of streams', () => {
    test('opens and closes them one by one, each a card with its state, rate and last events', async () => {
      const { demo, page } = await visit()
      demo.start()
      await openStreams(page, 2)
      for (const number of [1, 2]) {
        const card = cardOf(page, number)
        await card.getByText(/^[\d.]+ events\/s, [1-9]\d* in all$/).waitFor()
        await card.getByRole('listitem').filter({ hasText: 'process.load' }).first().waitFor()
      }
      await gauge(page, '2 of 5 slots used: 2 by this page, 0 elsewhere.')
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).click()
      await state(page, 1, 'Closed')
      await gauge(page, '1 of 5 slots used: 1 by this page, 0 elsewhere.')
      await state(page, 2, 'Open')
      await cardOf(page, 1).getByRole('button', { name: 'Open again stream 1' }).click()
      await state(page, 1, 'Open')
      await gauge(page, '2 of 5 slots used')
      await cardOf(page, 2).getByRole('button', { name: 'Close stream 2' }).click()
      await cardOf(page, 2).getByRole('button', { name: 'Remove stream 2' }).click()
      await cardOf(page, 2).waitFor({ state: 'detached' })
      // Where the removed one was, or nearest to it.
      await focused(page, 'Close stream 1')
    })

    test('does what a double click began, and does not undo it', async () => {
      const { page } = await visit()
      await page.getByRole('button', { name: 'Open a stream' }).dblclick()
      await gauge(page, '2 of 5 slots used: 2 by this page, 0 elsewhere.')
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).dblclick()
      await state(page, 1, 'Closed')
      await gauge(page, '1 of 5 slots used: 1 by this page, 0 elsewhere.')
      await cardOf(page, 1).getByRole('button', { name: 'Open again stream 1' }).dblclick()
      await state(page, 1, 'Open')
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).click()
      await cardOf(page, 2).getByRole('button', { name: 'Close stream 2' }).click()
      // The next card moves to the place of the removed one.
      await cardOf(page, 1).getByRole('button', { name: 'Remove stream 1' }).dblclick()
      await cardOf(page, 1).waitFor({ state: 'detached' })
      expect(await cardOf(page, 2).count()).toBe(1)
    })

    test('shows the last events of a card in few words, and the whole under the pointer', async () => {
      const { demo, page } = await visit()
      await openStreams(page, 1)
      await demo.get('/nothing-here', BOB)
      const line = cardOf(page, 1).getByRole('listitem').first()
      await line.getByText('request.seen GET /nothing-here 404').waitFor()
      expect(await line.getAttribute('title')).toMatch(/^[\d:.]{12} request\.seen .*"durationMs":/)

      // Nobody reads what changes with each of many events.
      await page.evaluate(() => {
        // biome-ignore lint/suspicious/noExplicitAny: what browsers have, and these are types of Node
        const window = globalThis as any
        window.draws = 0
        const observer = new window.MutationObserver(() => {
          window.draws += 1
        })
        observer.observe(window.document.querySelector('.last'), { childList: true })
      })
      for (let number = 0; number < 40; number += 1) await demo.get(`/number-${number}`)
      await line.getByText('/number-39').waitFor()
      expect(await page.evaluate('draws')).toBeLessThan(20)
    })

    test('shows slots that another tab and another program hold', async () => {
      const { demo, context, page } = await visit()
      await gauge(page, '0 of 5 slots used.')
      const meter = page.getByRole('meter', { name: 'Slots used' })
      const curl = await open(`${demo.url}/events`, { headers: ALICE })
      await gauge(page, '1 of 5 slots used: 0 by this page, 1 elsewhere.')
      expect(await meter.getAttribute('aria-valuenow')).toBe('1')
      expect(await meter.getAttribute('aria-valuemax')).toBe('5')

      const tab = await newTab(context, demo.url)
      await openStreams(tab, 1)
      await openStreams(page, 1)
      await gauge(page, '3 of 5 slots used: 1 by this page, 2 elsewhere.')
      curl.close()
      await tab.close()
      await gauge(page, '1 of 5 slots used: 1 by this page, 0 elsewhere.')
    })

    test('tells which process answers, and how far its count reaches', async () => {
      const store = new FaultyStore(60_000)
      const { demo, page } = await visit('viewer', { store })
      const answers = `Process ${process.pid} on port ${new URL(demo.url).port} answers.`
      const footer = page.getByRole('contentinfo')
      await footer.getByText(`${answers} Slots are counted over all processes on the same Redis.`).waitFor()
      store.fault = () => {
        throw new Error('away')
      }
      await footer.getByText(`${answers} It counts slots by itself.`).waitFor()
    })

    test('dates the gauge while the server is away', async () => {
      const { context, page } = await visit()
      await gauge(page, '0 of 5 slots used.')
      await context.setOffline(true)
      await gauge(page, /As of \d\d:\d\d:\d\d\./)
      await context.setOffline(false)
      await page.getByText(/As of/).waitFor({ state: 'hidden' })
    })

    test('opens one stream a card, however fast it is clicked, and none for a card that is gone', async () => {
      const { page } = await visit()
      await openStreams(page, 1)
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).click()
      await gauge(page, '0 of 5 slots used.')
      const again = cardOf(page, 1).getByRole('button', { name: 'Open again stream 1' })
      // Two clicks in one task of the page: a double click, faster than any connection can be reserved.
      await again.evaluate((button: { click(): void }) => {
        button.click()
        button.click()
      })
      await state(page, 1, 'Open')
      await gauge(page, '1 of 5 slots used: 1 by this page, 0 elsewhere.')
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).click()
      await gauge(page, '0 of 5 slots used.')

      const remove = await cardOf(page, 1).getByRole('button', { name: 'Remove stream 1' }).elementHandle()
      await again.evaluate((button: { click(): void }, other) => {
        button.click()
        ;(other as unknown as { click(): void }).click()
      }, remove)
      await cardOf(page, 1).waitFor({ state: 'detached' })
      await openStreams(page, 5)
      await gauge(page, '5 of 5 slots used: 5 by this page, 0 elsewhere.')
    })

    test('opens none for a user who logs out at that moment, and holds no connection for it', async () => {
      const { page } = await visit()
      for (let round = 0; round < 5; round += 1) {
        await page.evaluate(() => {
          const { document } = globalThis as unknown as {
            document: { getElementById(id: string): { click(): void } }
          }
          document.getElementById('open-stream').click()
          document.getElementById('log-out').click()
        })
        await page.getByLabel('Name').waitFor()
        await logIn(page, 'viewer')
      }
      await openStreams(page, 5)
      await gauge(page, '5 of 5 slots used: 5 by this page, 0 elsewhere.')
    })

    test('says so when another tab has changed the login', async () => {
      const { context, demo, page } = await visit()
      await openStreams(page, 1)
      const tab = await newTab(context, demo.url)
      await tab.getByRole('button', { name: 'Log out' }).click()
      await tab.getByRole('status').getByText('Logged out').waitFor()
      await page.getByText('You are logged out').waitFor()
      await logIn(tab, 'admin', 'ivy')
      await page.getByText('Logged in as ivy admin').waitFor()
      await page.getByText('Another tab logged in as ivy').waitFor()
      await page.getByText('so the streams of alice were closed here').waitFor()
      await context.request.post(`${demo.url}/login`, { data: { name: 'jim', role: 'viewer' } })
      await page.getByText('Another tab logged in as jim').waitFor()
      await page.getByText('so the streams of ivy were closed here').waitFor()
      // Where nobody was logged in, nobody lost streams.
      await tab.getByText('Another tab logged in as jim').waitFor()
      await tab.getByRole('button', { name: 'Log out' }).click()
      await logIn(page, 'viewer', 'kim')
      await tab.getByText('All tabs of a browser share the login.').waitFor()
      expect(await page.getByRole('alert').isVisible()).toBe(false)
      await tab.reload()
      await tab.getByText('Logged in as kim viewer').waitFor()
      expect(await tab.getByRole('alert').isVisible()).toBe(false)
    })

    test('ends those of a hidden tab when another tab logs out, and shows nothing of the next user there', async () => {
      const { demo, context, page } = await visit()
      const hidden = await newTab(context, demo.url)
      await openStreams(hidden, 1)
      await hidden.evaluate(() => Object.defineProperty(globalThis.document, 'hidden', { value: true }))
      await page.getByRole('button', { name: 'Log out' }).click()
      await hidden.getByText('You are logged out').waitFor()
      await eventually(async () => ((await demo.whoami(ALICE)) as { used: number }).used === 0)
    })

    test('ends one that came back as another user in a hidden tab', async () => {
      const { app } = createApp({ publicDir: PUBLIC_DIR })
      const { server, url } = await serve(app)
      const context = await newContext()
      const page = await newTab(context, url)
      await logIn(page, 'viewer')
      await openStreams(page, 1)
      await page.evaluate(() => Object.defineProperty(globalThis.document, 'hidden', { value: true }))
      await context.request.post(`${url}/login`, { data: { name: 'jim', role: 'viewer' } })
      server.closeAllConnections()
      await page.getByText('Another tab logged in as jim').waitFor()
      expect(await page.getByRole('article').count()).toBe(0)
    })

    test('logs out as soon as it can when the server is out of reach', async () => {
      const { context, page } = await visit()
      await openStreams(page, 1)
      await context.setOffline(true)
      await page.getByRole('button', { name: 'Log out' }).click()
      await page.getByText('The server does not answer').waitFor()
      await context.setOffline(false)
      await page.getByText('The server does not answer').waitFor({ state: 'hidden' })
      await page.reload()
      await page.getByLabel('Name').waitFor()
    })

    test('says that a lost one waits to come back, and it does', async () => {
      const { app } = createApp({ publicDir: PUBLIC_DIR })
      const { server, url } = await serve(app)
      const page = await newTab(await newContext(), url)
      await logIn(page, 'viewer')
      await openStreams(page, 1)
      server.closeAllConnections()
      await state(page, 1, 'Waiting to come back')
      await cardOf(page, 1).getByText('EventSource comes back by itself').waitFor()
      await page.getByText('Waiting for stream 1 to come back.').waitFor()
      await state(page, 1, 'Open')
    })

    test('shows the sixth refused as it is, and opens it once another is closed', async () => {
      const { page } = await visit()
      await openStreams(page, 5)
      await page.getByRole('button', { name: 'Open a stream' }).click()
      const card = cardOf(page, 6)
      await state(page, 6, 'Refused')
      await card.getByText('429 Too Many Requests', { exact: true }).waitFor()
      await card.getByText('Policy "sse": at most 5 streams open at once per user; 0 are free.').waitFor()
      await card.getByText('RateLimit-Policy: "sse";q=5;qu="concurrent-requests"').waitFor()
      await card.getByText('"code": "ERR_STREAM_LIMIT"').waitFor()
      await card.getByText('"detail": "You have 5 of 5 allowed streams open').waitFor()
      await card.getByText('EventSource will not come back by itself').waitFor()

      const time = card.getByText(/^at [\d:.]{12}$/)
      const before = await time.textContent()
      await card.getByRole('button', { name: 'Try again stream 6' }).click()
      await time.filter({ hasNotText: before as string }).waitFor()
      expect(await card.getByText('A slot is free now.').isVisible()).toBe(false)
      await cardOf(page, 3).getByRole('button', { name: 'Close stream 3' }).click()
      await gauge(page, '4 of 5 slots used')
      await card.getByText('A slot is free now.').waitFor()
      await card.getByRole('button', { name: 'Try again stream 6' }).click()
      await state(page, 6, 'Open')
      await gauge(page, '5 of 5 slots used: 5 by this page, 0 elsewhere.')
    })

    test('shows one refusal of many clicks, in view, and keeps it until the next outcome is known', async () => {
      const { demo, page } = await visit('viewer', { context: { viewport: { width: 375, height: 740 } } })
      for (let held = 0; held < 3; held += 1) await demo.watch(ALICE)
      await openStreams(page, 2)
      const card = page.getByRole('article').filter({ hasText: '429 Too Many Requests' })
      await page.getByRole('button', { name: 'Open a stream' }).click({ clickCount: 8 })
      await card.getByText('"code": "ERR_STREAM_LIMIT"').waitFor()
      await inView(card.getByText('429 Too Many Requests'))
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await inView(card.getByText('429 Too Many Requests'))
      expect(await page.getByRole('article').count()).toBe(3)

      const { height } = (await card.boundingBox()) ?? {}
      const answer = await hold(page, '**/events')
      const again = card.getByRole('button', { name: 'Try again' })
      await again.click()
      await card.getByText('Connecting', { exact: true }).waitFor()
      expect((await card.boundingBox())?.height).toBe(height)
      expect(await again.evaluate((button) => globalThis.document.activeElement === button)).toBe(true)
      answer()
      await card.getByText('Refused', { exact: true }).waitFor()
    })

    test('says so when the slot came free between the refusal and the look at it, and takes none for the look', async () => {
      const { demo, page } = await visit()
      const others = await Promise.all(Array.from({ length: 5 }, () => demo.watch(ALICE)))
      // The fetch that asks why is held up until there is a free slot again.
      await page.route('**/events', async (route) => {
        if (route.request().resourceType() === 'fetch') {
          others[0]?.close()
          await gauge(page, '4 of 5 slots used')
        }
        await route.continue()
      })
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await cardOf(page, 1).getByText('by now a slot is free again').waitFor()
      await eventually(async () => ((await demo.whoami(ALICE)) as { used: number }).used === 4)
      await page.unrouteAll()
    })
  })

  describe('of more streams than the browser has connections', () => {
    const before = process.env.SSE_MAX_PER_USER
    beforeEach(() => {
      process.env.SSE_MAX_PER_USER = '10'
    })
    afterAll(() => {
      if (before === undefined) delete process.env.SSE_MAX_PER_USER
      else process.env.SSE_MAX_PER_USER = before
    })

    const RAN_OUT = 'The browser has run out of connections'

    test('shows a single slot in use where the cap is too large to draw each', async () => {
      process.env.SSE_MAX_PER_USER = '200'
      const { demo, page } = await visit()
      const pieces = page.getByRole('meter', { name: 'Slots used' }).locator('span')
      const used = page.getByRole('meter').locator('.here, .elsewhere')
      await gauge(page, '0 of 200 slots used.')
      expect([await pieces.count(), await used.count()]).toEqual([20, 0])
      await demo.watch(ALICE)
      await gauge(page, '1 of 200 slots used')
      expect([await pieces.count(), await used.count()]).toEqual([20, 1])
    })

    test('explains it instead of opening the sixth, and its own calls go on', async () => {
      const { demo, page } = await visit('viewer', { tokenDelayMs: 5 })
      await openStreams(page, 5)
      await page.getByRole('button', { name: 'Open a stream' }).click()
      const notice = page.getByRole('alert').filter({ hasText: RAN_OUT })
      await notice.getByText('5 of 10 slots are used. Over HTTP/1.1 a browser').waitFor()
      await notice.getByText('six connections').waitFor()
      expect(await page.getByRole('article').count()).toBe(5)

      await demo.watch(ALICE)
      await gauge(page, '6 of 10 slots used: 5 by this page, 1 elsewhere.')
      await page.getByRole('button', { name: 'Ask' }).click()
      await notice.getByText('6 of 10 slots are used').waitFor()
      // The question is far below it, and the answer to the click must be seen there.
      const { y = -1 } = (await notice.boundingBox()) ?? {}
      expect(y).toBeGreaterThanOrEqual(0)
      // It says nothing new to the same click, so it takes the focus, and gives it back.
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.locator(':focus').and(notice).waitFor()
      await page.getByRole('button', { name: 'Dismiss' }).click()
      await focused(page, 'Ask')
      await page.getByRole('button', { name: 'Ask' }).click()

      await cardOf(page, 2).getByRole('button', { name: 'Close stream 2' }).click()
      await notice.waitFor({ state: 'hidden' })
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText('The answer is complete.').waitFor()
      await openStreams(page, 1)
    })

    test('closes a sixth at once that was to be refused and was not, as it took the last connection', async () => {
      const { demo, page } = await visit()
      await openStreams(page, 5)
      // A slot comes free between the look and the opening.
      const full = { name: 'alice', role: 'viewer', used: 10, cap: 10, events: [] }
      await page.route('**/slots', (route) => route.fulfill({ json: full }))
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await page.getByRole('alert').filter({ hasText: RAN_OUT }).waitFor()
      await state(page, 6, 'Closed')
      await page.unrouteAll()
      await gauge(page, '5 of 10 slots used: 5 by this page, 0 elsewhere.')
      await demo.watch(ALICE)
      await gauge(page, '6 of 10 slots used')
    })

    test('counts the streams of other tabs too, and forgets those of a tab that is closed', async () => {
      const { demo, context, page } = await visit()
      const tab = await newTab(context, demo.url)
      await openStreams(tab, 3)
      await openStreams(page, 2)
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await page.getByRole('alert').filter({ hasText: RAN_OUT }).waitFor()
      await tab.close()
      await gauge(page, '2 of 10 slots used')
      await openStreams(page, 1)
    })

    test('explains it also when something else of the browser has taken them all', async () => {
      const { demo, context, page } = await visit()
      const other = await context.newPage()
      await other.goto(`${demo.url}/whoami`)
      await other.evaluate(
        () =>
          new Promise<void>((resolve) => {
            let opened = 0
            for (let number = 0; number < 6; number += 1) {
              // biome-ignore lint/suspicious/noExplicitAny: a type of browsers, and these are types of Node
              ;new (globalThis as any).EventSource('/events').onopen = () => {
                opened += 1
                if (opened === 6) resolve()
              }
            }
          }),
      )
      const notice = page.getByRole('alert').filter({ hasText: 'The server has not answered for 3 seconds' })
      await notice.getByText('something else in this browser may hold all six connections').waitFor()
      await other.close()
      await gauge(page, '0 of 10 slots used.')
      await page.getByRole('alert').waitFor({ state: 'hidden' })
    })
  })

  describe('of events', () => {
    test('shows a dash and no zero while no stream is open, and nothing holds the table before it has a row', async () => {
      const { demo, page } = await visit()
      const withheld = page.getByRole('region', { name: 'Withheld' })
      await withheld.getByText('–', { exact: true }).waitFor()
      await withheld.getByText('No stream is open.').waitFor()
      await openStreams(page, 1)
      await page.getByRole('region', { name: 'Table of live events' }).hover()
      expect(await page.getByText(/^Paused,/).count()).toBe(0)
      await demo.get('/first')
      await row(page, '/first').waitFor()
      await page.getByText('Paused, as the pointer is over it.').waitFor()
    })

    test('is not held for the next user by the button that the last one pressed', async () => {
      const { demo, page } = await visit()
      const pause = page.getByRole('button', { name: 'Pause' })
      await pause.click()
      await page.getByText('Paused, as you paused it.').waitFor()
      await page.getByRole('button', { name: 'Log out' }).click()
      await logIn(page, 'viewer', 'bob')
      expect(await pause.getAttribute('aria-pressed')).toBe('false')
      await openStreams(page, 1)
      await demo.get('/first')
      await row(page, '/first').waitFor()
    })

    test('shows a viewer those for viewers, the newest first, and how many were withheld, but not which', async () => {
      const { demo, page } = await visit()
      const bodies = recordBodies(page)
      await openStreams(page, 1)
      await demo.get('/first', BOB)
      await demo.get('/second?token=1', BOB)
      await row(page, '/second').waitFor()
      const rows = await page.getByRole('row').filter({ hasText: 'request.seen' }).allInnerTexts()
      expect(rows[0]).toContain('/second')
      expect(rows[1]).toContain('/first')

      const withheld = page.getByRole('region', { name: 'Withheld' })
      await withheld.getByText('events withheld from viewers on stream 1').waitFor()
      await withheld.getByText('2', { exact: true }).waitFor()
      await demo.get('/third', BOB)
      await withheld.getByText('3', { exact: true }).waitFor()

      const html = await page.content()
      expect(html).toContain('/third')
      for (const text of [html, ...(await bodies())]) {
        expect(text).not.toMatch(/request\.detail|question\.asked|userAgent/)
      }
      expect(
        await page
          .getByRole('row')
          .filter({ hasText: /\bip\b|127\.0\.0\.1/ })
          .count(),
      ).toBe(0)
    })

    test('shows an admin the address and the details, and which events were withheld', async () => {
      const { demo, page } = await visit('admin', { tokenDelayMs: 5 })
      await openStreams(page, 1)
      await demo.get('/first', BOB)
      await row(page, /request\.seen.*\/first.*ip .*127\.0\.0\.1/s).waitFor()
      await row(page, /request\.detail.*\/first.*bytesSent/s).waitFor()
      const withheld = page.getByRole('region', { name: 'Withheld' })
      await withheld.getByText('0', { exact: true }).waitFor()

      await page.getByLabel('Your question').fill('Are you busy?')
      await page.getByRole('button', { name: 'Ask' }).click()
      await withheld.getByRole('listitem').filter({ hasText: 'question.asked × 1' }).waitFor()
      await withheld.getByText('1', { exact: true }).waitFor()
      await row(page, /answer\.ended.*askedBy alice/s).waitFor()
    })

    test('holds the table under the pointer, under the keyboard and by the button, and then goes on', async () => {
      const { demo, page } = await visit()
      await openStreams(page, 1)
      await demo.get('/first')
      await row(page, '/first').waitFor()
      const table = page.getByRole('region', { name: 'Table of live events' })
      const pause = page.getByRole('button', { name: 'Pause' })

      const holds = async (name: string, why: string) => {
        await page.getByText(why).waitFor()
        await demo.get(`/${name}`)
        await page.getByText('1 event waiting.').waitFor()
        expect(await row(page, `/${name}`).count()).toBe(0)
      }
      const goesOn = async (name: string) => {
        await row(page, `/${name}`).waitFor()
        expect(await page.getByText('waiting.').count()).toBe(0)
        expect(await page.getByText(/^Paused,/).count()).toBe(0)
      }

      await table.hover()
      await holds('hovered', 'Paused, as the pointer is over it.')
      await page.getByRole('heading', { level: 1 }).hover()
      await goesOn('hovered')

      await pause.focus()
      await page.keyboard.press('Tab')
      await holds('focused', 'Paused, as the keyboard is in it.')
      await page.keyboard.press('Tab')
      await goesOn('focused')

      await pause.click()
      expect(await pause.getAttribute('aria-pressed')).toBe('true')
      await holds('paused', 'Paused, as you paused it.')
      // Another reason that comes and goes does not end it.
      await table.hover()
      await page.getByRole('heading', { level: 1 }).hover()
      expect(await row(page, '/paused').count()).toBe(0)
      await pause.click()
      await goesOn('paused')

      // A click moves the focus too, and must not hold the table after the pointer has left.
      await table.click({ position: { x: 5, y: 200 } })
      await page.getByRole('heading', { level: 1 }).hover()
      expect(await page.getByText(/^Paused,/).count()).toBe(0)
    })

    test('keeps a bounded number of rows, and goes on with the next stream when one is closed', async () => {
      const { demo, page } = await visit()
      await openStreams(page, 2)
      for (let number = 0; number < 60; number += 1) await demo.get(`/number-${number}`)
      await row(page, '/number-59').waitFor()
      expect(await page.getByRole('row').count()).toBe(51)
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).click()
      await page.getByText('Of stream 2').waitFor()
      await demo.get('/later')
      await row(page, '/later').waitFor()
      // And stays with it when the first is back.
      await cardOf(page, 1).getByRole('button', { name: 'Open again stream 1' }).click()
      await state(page, 1, 'Open')
      expect(await page.getByText('Of stream 2').count()).toBe(1)

      await page.getByRole('button', { name: 'Pause' }).click()
      for (let number = 0; number < 60; number += 1) await demo.get(`/more-${number}`)
      await page.getByText('60 new events; the last 50 will be shown.').waitFor()
    })

    test('parses an event stream, however it is cut into pieces', async () => {
      const { page } = await visit()
      const text =
        ': comment\r\n\r\nretry: 5\r\nevent: a\r\ndata: 1\r\ndata:  2\r\n\r\n' +
        'event: no data\n\ndata\n\ndata:x:y\r\rdata: cut'
      const cuts = [1, 2, 3, text.length].map((size) => text.match(new RegExp(`[^]{1,${size}}`, 'g')))
      // As text, or the import would be compiled for Node.
      const parsed = await page.evaluate(`import('/sse-parser.js').then(({ SseParser }) =>
        ${JSON.stringify(cuts)}.map((pieces) => {
          const parser = new SseParser()
          return pieces.flatMap((piece) => parser.feed(piece))
        }))`)
      const events = [
        { event: 'a', data: '1\n 2' },
        { event: 'message', data: '' },
        { event: 'message', data: 'x:y' },
      ]
      expect(parsed).toEqual([events, events, events, events])
    })
  })

  describe('of questions', () => {
    test('shows the answer word by word', async () => {
      const { page } = await visit('viewer', { tokenDelayMs: 40 })
      await page.getByLabel('Your question').fill('How many requests have you seen?')
      await page.getByRole('button', { name: 'Ask' }).click()
      const answer = page.getByRole('region', { name: 'Answer' })
      const seen = new Set<string | null>()
      while ((await page.getByText('The answer is complete.').count()) === 0)
        seen.add(await answer.textContent())
      const texts = [...seen].filter((text): text is string => Boolean(text))
      expect(texts.length).toBeGreaterThan(3)
      for (const text of texts) expect(texts.at(-1)?.startsWith(text)).toBe(true)
      expect(await answer.textContent()).toMatch(
        /^I have answered \d+ requests since I started: .* over the cap\.$/,
      )
      await page.getByText(/^\d+ tokens$/).waitFor()
      await focused(page, 'Ask')
    })

    test('stops, and shows that the server cancelled its source', async () => {
      const { demo, page } = await visit('viewer', { tokenDelayMs: 100 })
      const admin = await demo.watch({ Authorization: 'Bearer admin:root' })
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText(/^[2-9] tokens$/).waitFor()
      await gauge(page, '1 of 5 slots used: 1 by this page, 0 elsewhere.')
      await page.getByRole('button', { name: 'Stop' }).click()
      const stopped = page.getByText(/^Stopped\. The server cancelled its source after \d+ of \d+ tokens\.$/)
      await stopped.waitFor()
      await gauge(page, '0 of 5 slots used.')

      await admin.until(({ text }) => text.includes('answer.ended'))
      const [, tokens, of] = /event: answer\.ended\ndata: \{"tokens":(\d+),"of":(\d+)/.exec(admin.text) ?? []
      expect(await stopped.textContent()).toContain(`after ${tokens} of ${of} tokens`)
      expect(Number(tokens)).toBeLessThan(Number(of))
    })

    test('tells the news of a stopped answer neither beside the next one nor to the next user', async () => {
      const { demo, page } = await visit('viewer', { tokenDelayMs: 50 })
      // The news are late, so that there is time to ask again.
      await page.route('**/slots', async (route) => {
        await new Promise((resolve) => setTimeout(resolve, 300))
        await route.continue().catch(() => {})
      })
      const ask = page.getByRole('button', { name: 'Ask' })
      const stop = page.getByRole('button', { name: 'Stop' })
      await ask.click()
      await page.getByText(/^[2-9] tokens$/).waitFor()
      await stop.click()
      await ask.click()
      await page.getByText(/^\d\d tokens$/).waitFor()
      expect(await page.getByText('Answering…').count()).toBe(1)
      expect(await page.getByText(/^Stopped/).count()).toBe(0)

      await page.getByRole('button', { name: 'Log out' }).click()
      await page.getByLabel('Name').waitFor()
      await logIn(page, 'viewer', 'mallory')
      await page.getByText('of 5 slots used').waitFor()
      await eventually(async () => ((await demo.whoami(ALICE)) as { used: number }).used === 0)
      expect(await page.getByText(/^Stopped/).count()).toBe(0)
    })

    test('asks once and stops once, however it is pressed', async () => {
      const { page } = await visit('viewer', { tokenDelayMs: 100 })
      const ask = page.getByRole('button', { name: 'Ask' })
      const stop = page.getByRole('button', { name: 'Stop' })
      let asked = 0
      page.on('request', (request) => {
        if (request.url().endsWith('/ask')) asked += 1
      })
      await ask.dblclick()
      await page.getByText(/^[2-9] tokens$/).waitFor()
      expect(await ask.getAttribute('aria-disabled')).toBe('true')
      await stop.dblclick()
      await page.getByText(/^Stopped\. The server cancelled/).waitFor()
      expect(await stop.getAttribute('aria-disabled')).toBe('true')

      await page.getByLabel('Your question').press('Shift+Enter')
      await page.keyboard.down('Enter')
      await page.keyboard.down('Enter')
      await page.keyboard.up('Enter')
      await page.getByText(/^[2-9] tokens$/).waitFor()
      expect(asked).toBe(2)
    })

    test('says that there was no connection, if there was none', async () => {
      const { context, page } = await visit()
      await context.setOffline(true)
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText('There was no connection to the server.').waitFor()
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await cardOf(page, 1).getByText('There is no connection to the server yet.').waitFor()
      await cardOf(page, 1).getByRole('button', { name: 'Close stream 1' }).click()
      await cardOf(page, 1).getByText('You closed it.', { exact: true }).waitFor()
    })

    test('stops before an answer began, and says so', async () => {
      const { page } = await visit()
      await page.route('**/ask', async (route) => {
        await new Promise((resolve) => setTimeout(resolve, 500))
        await route.continue().catch(() => {})
      })
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByRole('button', { name: 'Stop' }).click()
      await page.getByText('Stopped before an answer began.').waitFor()
    })

    test('shows a mistake beside the field, and a refusal as it is', async () => {
      const { demo, page } = await visit()
      const field = page.getByLabel('Your question')
      await field.fill(' ')
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText('Type a question first.').waitFor()
      expect(await field.getAttribute('aria-invalid')).toBe('true')
      await field.fill('x'.repeat(301))
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText('A question has at most 300 characters, and this one has 301.').waitFor()

      const [first] = await Promise.all(Array.from({ length: 5 }, () => demo.watch(ALICE)))
      await field.fill('Busy?')
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText('429 Too Many Requests', { exact: true }).waitFor()
      await page.getByText('Policy "sse": at most 5 streams open at once per user; 0 are free.').waitFor()
      expect(await field.getAttribute('aria-invalid')).toBe(null)
      expect(await page.getByText('A slot is free now').isVisible()).toBe(false)
      first?.close()
      await page.getByText('Refused. A slot is free now: ask again.').waitFor()
    })
  })

  describe('to axe', () => {
    test.each(['light', 'dark'] as const)('has no violation in the %s theme', async (colorScheme) => {
      const demo = await startDemo({ publicDir: PUBLIC_DIR })
      demo.start()
      const page = await newTab(await newContext({ colorScheme }), demo.url)
      await page.getByLabel('Name').fill('a b')
      await page.getByRole('button', { name: 'Log in' }).click()
      await page.getByText('A name has 1 to 32 letters').waitFor()
      expect(await violations(page)).toEqual([])

      await logIn(page, 'admin')
      await openStreams(page, 2)
      await cardOf(page, 2).getByRole('button', { name: 'Close stream 2' }).click()
      await gauge(page, '1 of 5 slots used: 1 by this page, 0 elsewhere.')
      const root = { Authorization: 'Bearer admin:alice' }
      for (let held = 0; held < 4; held += 1) expect(await demo.watch(root)).toMatchObject({ status: 200 })
      await gauge(page, '5 of 5 slots used: 1 by this page, 4 elsewhere.')
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await cardOf(page, 3).getByText('429 Too Many Requests', { exact: true }).waitFor()
      await page.getByLabel('Your question').fill(' ')
      await page.getByRole('button', { name: 'Ask' }).click()
      await page.getByText('Type a question first.').waitFor()
      await row(page, 'process.load').first().waitFor()
      await page.getByRole('button', { name: 'Pause' }).click()
      expect(await violations(page)).toEqual([])
    })

    test('has none with the explanation of connections, on a screen 320 pixels wide, where nothing sticks out', async () => {
      const demo = await startDemo({ publicDir: PUBLIC_DIR })
      const page = await newTab(await newContext({ viewport: { width: 320, height: 640 } }), demo.url)
      const name = 'w'.repeat(32)
      await logIn(page, 'admin', name)
      // Not five streams of this page, but as many as the browser would need.
      await page.evaluate(async () => {
        for (let number = 1; number <= 5; number += 1) {
          // biome-ignore lint/suspicious/noExplicitAny: a type of browsers, and these are types of Node
          const { locks } = (globalThis as any).navigator
          await new Promise<void>((resolve) => {
            locks.request(`stream-connection-${number}`, () => {
              resolve()
              return new Promise(() => {})
            })
          })
        }
      })
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await page.getByRole('alert').filter({ hasText: 'run out of connections' }).waitFor()
      expect(await violations(page)).toEqual([])
      await page.getByRole('button', { name: 'Dismiss' }).click()
      for (let held = 0; held < 5; held += 1) await demo.watch({ Authorization: `Bearer admin:${name}` })
      await gauge(page, '5 of 5 slots used')
      await page.getByRole('button', { name: 'Open a stream' }).click()
      await cardOf(page, 1).getByText('429 Too Many Requests', { exact: true }).waitFor()
      const width = await page.evaluate(() => globalThis.document.documentElement.scrollWidth)
      expect(width).toBeLessThanOrEqual(320)
    })
  })
})

// The page's own globals, as the types here are those of Node.
declare global {
  // biome-ignore lint/suspicious/noExplicitAny: what of the browser is used in page.evaluate
  var document: any
}

function post(url: string, body: unknown): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'Content-Type': 'application/json' },
  })
}

const cardOf = (page: Page, number: number): Locator =>
  page.getByRole('article', { name: `Stream ${number}`, exact: true })

const state = (page: Page, number: number, name: string): Promise<void> =>
  cardOf(page, number).getByText(name, { exact: true }).waitFor()

const gauge = (page: Page, text: string | RegExp): Promise<void> =>
  page.getByRole('region', { name: 'Your streams' }).getByText(text).waitFor()

const row = (page: Page, text: string | RegExp): Locator => page.getByRole('row').filter({ hasText: text })

/** Waits until all of it is in the window. */
const inView = (element: Locator): Promise<void> =>
  eventually(() =>
    element.evaluate((node) => {
      const { top, bottom } = (
        node as unknown as { getBoundingClientRect(): { top: number; bottom: number } }
      ).getBoundingClientRect()
      return top >= 0 && bottom <= (globalThis as unknown as { innerHeight: number }).innerHeight
    }),
  )

/** Waits until the control of this name has the focus. */
const focused = (page: Page, name: string): Promise<void> =>
  page
    .locator(':focus')
    .and(page.getByRole('button', { name, exact: true }))
    .waitFor()

/** Opens some more streams, one after the other, until the gauge shows them: an older look says nothing of what follows. */
async function openStreams(page: Page, count: number): Promise<void> {
  const cards = page.getByRole('article').filter({ hasText: 'events/s' })
  const before = await cards.count()
  for (let opened = 1; opened <= count; opened += 1) {
    await page.getByRole('button', { name: 'Open a stream' }).click()
    await cards.nth(before + opened - 1).waitFor()
  }
  const here = await page.getByRole('button', { name: /^Close stream/ }).count()
  await gauge(page, `: ${here} by this page`)
}

/** Keeps whatever the server answers from now on, except to streams, which never end. */
function recordBodies(page: Page): () => Promise<string[]> {
  const bodies: Promise<string>[] = []
  page.on('response', (response) => {
    if (!response.url().endsWith('/events')) bodies.push(response.text().catch(() => ''))
  })
  return () => Promise.all(bodies)
}

/** What axe finds, in short. */
async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  return page.evaluate(async () => {
    // biome-ignore lint/suspicious/noExplicitAny: axe, as its script leaves it in the page
    const { violations: found } = await (globalThis as any).axe.run()
    return found.flatMap(({ id, nodes }: { id: string; nodes: { html: string; failureSummary: string }[] }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
    )
  })
}
