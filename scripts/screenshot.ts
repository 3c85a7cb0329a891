// Makes docs/demo.png anew: `npm run screenshot`. With a folder, `npm run screenshot -- shots`, it also puts
// there every view in both themes, wide and narrow, to be looked at.
import { mkdirSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { findChromium, launchChromium } from '../__tests__/support/browser.js'
import { createApp } from '../demo-server/app.js'

const LARGEST_BYTES = 300_000
const ROOT = fileURLToPath(new URL('..', import.meta.url))

async function main(folder: string | undefined): Promise<void> {
  const path = findChromium()
  if (!path)
    throw new Error('There is no Chromium. Install it, or say where it is: CHROMIUM_PATH=/path/to/chromium')
  // Part of the picture.
  process.env.SSE_MAX_PER_USER = '5'

  const demo = createApp({ publicDir: join(ROOT, 'demo-server/public'), tokenDelayMs: 150 })
  const server = createServer(demo.app)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  demo.start()
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const browser = await launchChromium(path)
  try {
    const file = join(ROOT, 'docs/demo.png')
    await shoot(browser, url, { file, role: 'viewer', colorScheme: 'light', width: 1200 })
    const { size } = statSync(file)
    if (size > LARGEST_BYTES)
      throw new Error(`${file} has ${size} bytes; at most ${LARGEST_BYTES} are wanted`)
    console.log(`${file}: ${Math.round(size / 1000)} KB`)
    if (folder) await shootAll(browser, url, folder)
  } finally {
    await browser.close()
    demo.stop()
    server.closeAllConnections()
    server.close()
  }
}

interface Shot {
  file: string
  role: 'viewer' | 'admin'
  colorScheme: 'light' | 'dark'
  width: number
}

async function shootAll(browser: Browser, url: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true })
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [1280, 375, 320]) {
      const page = await browser.newPage({ colorScheme, viewport: { width, height: 720 } })
      await page.goto(url)
      await page.getByLabel('Name').waitFor()
      await page.screenshot({ path: join(folder, `login-${colorScheme}-${width}.png`) })
      await page.close()
      const role = colorScheme === 'light' ? 'viewer' : 'admin'
      await shoot(browser, url, {
        file: join(folder, `${role}-${colorScheme}-${width}.png`),
        role,
        colorScheme,
        width,
      })
    }
  }
}

/** The page in the middle of things: streams here and elsewhere, one too many, traffic, and half an answer. */
async function shoot(browser: Browser, url: string, { file, role, colorScheme, width }: Shot): Promise<void> {
  // Kept, as a response that nobody holds is collected and its stream closed.
  const elsewhere: Response[] = []
  const page = await browser.newPage({
    colorScheme,
    reducedMotion: 'reduce',
    viewport: { width, height: 900 },
  })
  try {
    const hold = async () =>
      elsewhere.push(await fetch(`${url}/events`, { headers: { Authorization: `Bearer ${role}:alice` } }))
    await hold()
    await hold()
    await page.goto(url)
    await page.getByLabel('Name').fill('alice')
    await page.getByRole('radio', { name: role }).check()
    await page.getByRole('button', { name: 'Log in' }).click()
    await openStreams(page, 2)
    await page.getByText('4 of 5 slots used').waitFor()

    await makeTraffic(url)
    await page.waitForTimeout(2500)
    await makeTraffic(url)
    await page.getByRole('button', { name: 'Ask' }).click()
    await page.getByText(/^1\d tokens/).waitFor()
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByText('The server cancelled its source').waitFor()
    // The slot that the answer gave back, so that the gauge and the refusal say the same.
    await hold()
    await page.getByText('5 of 5 slots used: 2 by this page, 3 elsewhere.').waitFor()
    await openStreams(page, 1)
    await page.getByText('429 Too Many Requests').waitFor()
    await page.mouse.move(0, 0)
    // The lists on the cards are drawn a moment after the table.
    await page.waitForTimeout(300)
    await page.evaluate(() =>
      (globalThis as unknown as { scrollTo(x: number, y: number): void }).scrollTo(0, 0),
    )
    await page.screenshot({ path: file, fullPage: true })
  } finally {
    await Promise.all(elsewhere.map(({ body }) => body?.cancel()))
    await page.close()
  }
}

async function openStreams(page: Page, count: number): Promise<void> {
  for (let opened = 0; opened < count; opened += 1) {
    await page.getByRole('button', { name: 'Open a stream' }).click()
    await page.getByRole('article').nth(opened).waitFor()
  }
}

async function makeTraffic(url: string): Promise<void> {
  const bob = { Authorization: 'Bearer viewer:bob', 'User-Agent': 'curl/8.5.0' }
  for (const path of ['/whoami', '/', '/nothing-here']) await fetch(url + path, { headers: bob })
}

await main(process.argv[2])
