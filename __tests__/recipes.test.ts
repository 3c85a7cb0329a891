import { EventEmitter } from 'node:events'
import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express, { type Express, type RequestHandler, type Response } from 'express'
import { eventually } from './support/eventually.js'
import { readCodeBlocks } from './support/package-readme.js'
import { packPackage, REPO } from './support/package-tarball.js'
import { serve } from './support/server.js'

/** The recipes that are files, by the names in their first lines. */
const recipes = new Map(
  readCodeBlocks(readFileSync(join(REPO, 'docs/recipes.md'), 'utf8')).flatMap(({ code }) => {
    const file = /^\/\/ (\S+\.js)\n/.exec(code)?.[1]
    return file ? [[file, code] as const] : []
  }),
)

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'recipes-')))
symlinkSync(join(REPO, 'node_modules'), join(folder, 'node_modules'), 'junction')
for (const [file, code] of recipes) writeFileSync(join(folder, file), code)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** The exports of a recipe. */
const load = (file: string) => require(join(folder, file))

test('docs/recipes.md has the files that are tested here, and no other', () => {
  expect([...recipes.keys()].sort()).toEqual([
    'cookie-login.js',
    'mailbox.js',
    'news.js',
    'resume.js',
    'route.test.js',
  ])
})

describe('the login with a cookie', () => {
  beforeAll(() => {
    process.env.COOKIE_SECRET = 'a secret of the test, of more than 32 characters'
  })
  afterAll(() => {
    delete process.env.COOKIE_SECRET
  })

  test.each(['alice', 'a.b', 'Ärger; user=bob', 'x y'])('knows %j again', async (userId) => {
    const { url } = await serve(loginApp())
    const login = await fetch(`${url}/login?user=${encodeURIComponent(userId)}`)
    const [cookie = ''] = login.headers.getSetCookie()
    expect(cookie).toMatch(/; HttpOnly; Secure; SameSite=Lax$/)
    expect(await whoAmI(url, `theme=dark; ${cookie.split(';')[0]}`)).toEqual([200, userId])
  })

  test('knows nobody without the cookie, with another signature, or with one that makes no sense', async () => {
    const { url } = await serve(loginApp())
    for (const cookie of [
      '',
      'user=',
      'user=bob',
      'user=bob.',
      `user=bob.${'0'.repeat(64)}`,
      'user=%',
      'user=.',
    ]) {
      expect([cookie, (await whoAmI(url, cookie))[0]]).toEqual([cookie, 401])
    }
  })

  function loginApp(): Express {
    const { logIn, requireUser } = load('cookie-login.js') as {
      logIn(res: Response, userId: string): void
      requireUser: RequestHandler
    }
    const app = express()
    app.get('/login', (req, res) => {
      logIn(res, String(req.query.user))
      res.end()
    })
    app.get('/', requireUser, (_req, res) => void res.send(res.locals.userId))
    return app
  }

  async function whoAmI(url: string, cookie: string) {
    const answer = await fetch(url, { headers: { Cookie: cookie } })
    return [answer.status, await answer.text()]
  }
})

describe('the mailbox', () => {
  type Mailbox = (
    emitter: EventEmitter,
    name: string,
    signal: AbortSignal,
    size?: number,
  ) => AsyncGenerator<number>

  test('brings what is emitted in order, drops the oldest when it is full, and leaves no listener behind', async () => {
    const emitter = new EventEmitter()
    const stop = new AbortController()
    const events = (load('mailbox.js').mailbox as Mailbox)(emitter, 'event', stop.signal, 3)
    const first = events.next()
    emitter.emit('event', 1)
    expect(await first).toEqual({ done: false, value: 1 })
    for (const n of [2, 3, 4, 5, 6]) emitter.emit('event', n)
    expect([await events.next(), await events.next(), await events.next()].map(({ value }) => value)).toEqual(
      [4, 5, 6],
    )
    const waiting = events.next()
    stop.abort()
    expect(await waiting).toEqual({ done: true, value: undefined })
    expect(emitter.listenerCount('event')).toBe(0)
  })

  test('brings viewers what the bus emits, and lets go of it when they leave', async () => {
    const { app, bus } = load('news.js') as { app: Express; bus: EventEmitter }
    const { url } = await serve(app)
    const leave = new AbortController()
    const { body } = await fetch(`${url}/news`, { signal: leave.signal })
    await eventually(() => bus.listenerCount('event') === 1)
    bus.emit('event', { event: 'build.done', data: { url: '/builds/7', log: 'secret' } })
    expect(await readUntil(body, '\n\n')).toBe(
      'retry: 2000\nevent: build.done\ndata: {"url":"/builds/7"}\n\n',
    )
    leave.abort()
    await eventually(() => bus.listenerCount('event') === 0)
  })
})

describe('the resume by id', () => {
  test.each([
    { lastId: undefined, names: ['a', 'b', 'c', 'd'] },
    { lastId: '2', names: ['c', 'd'] },
    { lastId: '3', names: ['d'] },
    { lastId: '4', names: ['history.lost', 'd'] },
    { lastId: 'x', names: ['history.lost', 'd'] },
  ])(
    'sends what came after $lastId, then what is new, and leaves no listener behind',
    async ({ lastId, names }) => {
      jest.resetModules()
      const { addRow, table, watchRows } = load('resume.js') as {
        addRow(name: string): void
        table: EventEmitter
        watchRows: RequestHandler
      }
      for (const name of ['a', 'b', 'c']) addRow(name)
      const { url } = await serve(express().get('/', watchRows))
      const leave = new AbortController()
      const headers = lastId === undefined ? {} : { 'Last-Event-ID': lastId }
      const { body } = await fetch(url, { headers, signal: leave.signal })
      await eventually(() => table.listenerCount('added') === 1)
      addRow('d')
      expect(await readUntil(body, '"d"}\n\n')).toBe(
        `retry: 2000\n${names
          .map((name) =>
            name.length > 1
              ? `event: ${name}\nid: \ndata: null\n\n`
              : `event: row.added\nid: ${'abcd'.indexOf(name) + 1}\ndata: {"name":"${name}"}\n\n`,
          )
          .join('')}`,
      )
      leave.abort()
      await eventually(() => table.listenerCount('added') === 0)
    },
  )
})

test('the test of a route passes under node --test', async () => {
  const packed = await packPackage()
  try {
    const code = recipes.get('route.test.js') as string
    const project = packed.project('route', { 'package.json': '{ "type": "module" }', 'route.test.js': code })
    expect(await packed.node(project, '--test', 'route.test.js')).toMatch(/# pass 1\n/)
  } finally {
    packed.remove()
  }
}, 120_000)

async function readUntil(body: ReadableStream | null, end: string): Promise<string> {
  let text = ''
  for await (const chunk of body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk
    if (text.includes(end)) break
  }
  return text
}
