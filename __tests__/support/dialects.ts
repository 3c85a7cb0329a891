import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import express, { type Express, type RequestHandler } from 'express'
import { readCodeBlocks } from './package-readme.js'
import { REPO } from './package-tarball.js'

/** What the browser tests need beyond the page's own client libraries. */
const FETCH_EVENT_SOURCE = '@microsoft/fetch-event-source/lib/esm'

/** Instead of the page's login: neither the pages nor the AI SDK's client sign in first. */
const LOGIN = `
export const logIn = (req, res) => res.end()
export function requireUser(req, res, next) {
  res.locals.userId = 'alice'
  next()
}`

/** The snippets of docs/dialects.md as they stand there, by the file names in their first lines. */
export const snippets: ReadonlyMap<string, string> = new Map(
  readCodeBlocks(readFileSync(join(REPO, 'docs/dialects.md'), 'utf8'))
    .filter(({ language }) => language !== 'sh')
    .map(({ code }) => [/^(?:\/\/|<!--) (\S+\.(?:js|html))/.exec(code)?.[1] ?? code, code]),
)

const folders: string[] = []

afterAll(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

/** The snippets as modules in a folder of their own. */
export interface Dialects {
  /** The page's application, with its HTML pages. */
  app: Express
  /** A function that a snippet exports. */
  load<Exported>(file: string, name: string): Exported
}

/** @param change makes a variant of a snippet's code. */
export function loadDialects(change: (code: string, file: string) => string = (code) => code): Dialects {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'dialects-')))
  folders.push(folder)
  symlinkSync(join(REPO, 'node_modules'), join(folder, 'node_modules'), 'junction')
  const files = [...snippets].filter(([file]) => file.endsWith('.js'))
  for (const [file, code] of files) {
    writeFileSync(join(folder, file), change(file === 'login.js' ? LOGIN : code, file))
  }
  const load = <Exported>(file: string, name: string): Exported => require(join(folder, file))[name]

  const app = express()
  const path = join(REPO, 'node_modules', FETCH_EVENT_SOURCE)
  app.use('/vendor/fetch-event-source', express.static(path, { extensions: ['js'] }))
  app.get('/:file.html', (req, res) => {
    const html = snippets.get(`${req.params.file}.html`)
    res.status(html ? 200 : 404).send(`<!doctype html>${html}`)
  })
  app.get('/broken', load<RequestHandler>('broken.js', 'broken'))
  app.use(load<Express>('app.js', 'app'))
  return { app, load }
}
