import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import ts from 'typescript'
import {
  type CodeBlock,
  readCodeBlocks,
  readCurl,
  readDeclaredNames,
  readNpmScripts,
} from './support/package-readme.js'
import { type PackedPackage, packPackage, REPO } from './support/package-tarball.js'

/** The README and the pages whose programs know the names of its first one. Those of the other pages are run by tests of their own. */
const PAGES = readdirSync(join(REPO, 'docs'))
  .filter((file) => file.endsWith('.md') && !['dialects.md', 'writing-a-store.md'].includes(file))
  .map((file) => `docs/${file}`)
const blocks = ['README.md', ...PAGES].flatMap((page) =>
  readCodeBlocks(readFileSync(join(REPO, page), 'utf8')).map((block) => ({ page, ...block })),
)
const programs = blocks.filter(({ language }) => language === 'js' || language === 'ts')
const shell = blocks.filter(({ language }) => language === 'sh').map(({ code }) => code)
/** The pages' examples that are files, by the names in their first lines: other examples may import them. */
const fileOf = ({ code }: CodeBlock) => /^\/\/ (\S+)\.(?:js|ts)\n/.exec(code)?.[1]

const COMPILER_OPTIONS = {
  module: 'nodenext',
  target: 'es2023',
  strict: true,
  skipLibCheck: true,
  moduleDetection: 'force',
  types: ['node'],
  noEmit: true,
}

let packed: PackedPackage

beforeAll(async () => {
  packed = await packPackage()
}, 120_000)

afterAll(() => packed?.remove())

describe("the README's first program, run as pasted", () => {
  let server: ChildProcess | undefined
  const leave = new AbortController()

  afterEach(async () => {
    leave.abort()
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    server.kill('SIGKILL')
    await once(server, 'exit')
  })

  test('streams to the five that the curl line opens, and refuses the sixth', async () => {
    const first = programs[0]
    const curl = readCurl(shell.join('\n'))
    if (!first) throw new Error('README.md has no block of js or ts')
    if (!curl) throw new Error('README.md has no curl line with an Authorization header in a block of sh')

    const url = await start(first)
    const open = () =>
      fetch(url + curl.path, { headers: { Authorization: curl.authorization }, signal: leave.signal })
    const admitted = await Promise.all(Array.from({ length: 5 }, open))
    const refused = await open()

    expect(admitted.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200])
    expect(refused.status).toBe(429)
    expect(refused.headers.get('Content-Type')).toBe('application/problem+json')
    expect(await refused.json()).toMatchObject({ status: 429, code: 'ERR_STREAM_LIMIT' })
    const texts = await Promise.all(admitted.map(readUntilEvent))
    expect(texts).toEqual(Array(5).fill(expect.stringMatching(/^event: .+\n(id: .*\n)?data: .+\n\n/m)))
  })

  /** Starts the program on a free port, and resolves with its address once it accepts connections. */
  async function start({ language, code }: CodeBlock): Promise<string> {
    const file = language === 'ts' ? 'server.ts' : 'server.mjs'
    const project = packed.project('first', { [file]: code, 'package.json': '{ "type": "module" }' })
    const port = await findFreePort()
    const { SSE_MAX_PER_USER: _, ...env } = process.env
    const args = language === 'ts' ? ['--import', 'tsx', file] : [file]
    const child = spawn(process.execPath, args, { cwd: project, env: { ...env, PORT: String(port) } })
    server = child
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk
      })
    }
    const url = `http://localhost:${port}`
    while (!(await answers(url))) {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`The first program of README.md ended:\n${output}`)
      await setTimeout(50)
    }
    return url
  }
})

describe('the recipe of a limiter by address', () => {
  const recipe = programs.find(({ code }) => code.includes('ipKeyGenerator'))

  /** Runs the recipe with a limit of 3, and resolves with the statuses of what was asked from these addresses. */
  async function ask(addresses: readonly string[]): Promise<number[]> {
    const names = "import { defineEvents, openSession, streamEvents, streamLimit } from 'express-sse-guard'"
    const project = packed.project('by-address', {
      'package.json': '{ "type": "module" }',
      'main.js': `
        import express from 'express'
        ${names}
        const app = express()
        const requireUser = (req, res, next) => next()
        const limit = streamLimit({ keyGenerator: () => 'all', limit: Infinity })
        const viewerEvents = defineEvents({ clock: true })
        async function* buildEvents(signal) {
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
        }
        ${recipe?.code.replace('limit: 50', 'limit: 3')}
        const server = app.listen(0, '127.0.0.1', async () => {
          const url = 'http://127.0.0.1:' + server.address().port + '/both'
          // Kept, as a response that nobody holds is collected and its stream closed.
          const responses = []
          for (const address of ${JSON.stringify(addresses)}) {
            responses.push(await fetch(url, { headers: { 'X-Forwarded-For': address } }))
          }
          console.log(JSON.stringify(responses.map(({ status }) => status)))
          process.exit()
        })`,
    })
    return JSON.parse(await packed.node(project, 'main.js'))
  }

  test('counts the addresses of one IPv6 network as one, and other networks and IPv4 addresses apart', async () => {
    const ofOneNetwork = Array.from({ length: 20 }, (_, i) => `2001:db8:1:1::${(i + 1).toString(16)}`)
    const statuses = await ask([...ofOneNetwork, '2001:db8:2:1::1', '192.0.2.1', '192.0.2.2'])
    expect(statuses).toEqual([200, 200, 200, ...Array(17).fill(429), 200, 200, 200])
  })

  test('takes the address from the proxy in front, not what a client wrote behind it', async () => {
    const forged = Array.from({ length: 5 }, (_, i) => `198.51.100.${i}, 192.0.2.9`)
    expect(await ask(forged)).toEqual([200, 200, 200, 429, 429])
  })
})

describe('the programs of the README and of docs/', () => {
  test.each([
    { language: 'ts', options: { allowJs: true } },
    // What a reader pastes into JavaScript declares no types; its calls and properties are checked all the same.
    { language: 'js', options: { allowJs: true, checkJs: true, noImplicitAny: false } },
  ])(
    'compile in $language, each as a module that knows the names of the first',
    async ({ language, options }) => {
      const [first, ...others] = programs
      if (!first) throw new Error('README.md has no block of js or ts')
      const names = readDeclaredNames(first.code)
      const later = others.filter((block) => block.language === language)
      const project = packed.project(`compiled-${language}`, {
        'package.json': '{ "type": "module" }',
        'tsconfig.json': JSON.stringify({ compilerOptions: { ...COMPILER_OPTIONS, ...options } }),
        'prelude.d.ts': readFileSync(join(__dirname, 'support/package-readme-prelude.d.ts'), 'utf8'),
        'names.d.ts': names
          .map((name) => `declare const ${name}: typeof import('./README.md-${first.line}.js').${name}\n`)
          .join(''),
        // The empty lines make the compiler count as the page does.
        ...Object.fromEntries(
          [{ ...first, code: `${first.code}\nexport { ${names.join(', ')} }` }, ...later].map((block) => [
            `${fileOf(block) ?? `${block.page.replace('docs/', '')}-${block.line}`}.${block.language}`,
            '\n'.repeat(block.line - 1) + block.code,
          ]),
        ),
      })
      expect(await packed.node(project, '../node_modules/typescript/bin/tsc', '-p', '.')).toBe('')
    },
    60_000,
  )
})

describe('a reader', () => {
  /** Of each options interface: where it stands, and where each page lists it. */
  const LISTED = [
    {
      file: 'limit/stream-limit-options.ts',
      type: 'StreamLimitOptions',
      page: 'README.md',
      heading: 'streamLimit',
    },
    {
      file: 'events/viewer-events.ts',
      type: 'DefineEventsOptions',
      page: 'README.md',
      heading: 'defineEvents',
    },
    { file: 'stream/open-session.ts', type: 'OpenSessionOptions', page: 'README.md', heading: 'openSession' },
    {
      file: 'stream/stream-events.ts',
      type: 'StreamEventsOptions',
      page: 'README.md',
      heading: 'streamEvents',
    },
    { file: 'stream/source.ts', type: 'StreamEvent', page: 'README.md', heading: 'streamEvents' },
    {
      file: 'redis/redis-store-options.ts',
      type: 'RedisStoreOptions',
      page: 'docs/redis.md',
      heading: 'Options',
    },
  ]

  test.each(LISTED)(
    'finds every member of $type under "$heading" of $page',
    ({ file, type, page, heading }) => {
      const rows = [...section(read(page), heading).matchAll(/^\| `(\w+)` /gm)].map(([, name]) => name)
      expect(rows).toEqual(expect.arrayContaining(membersOf(join(REPO, 'lib', file), type)))
    },
  )

  test.each([
    'README.md',
    ...PAGES,
    'docs/dialects.md',
    'docs/writing-a-store.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
  ])('meets no dead link in %s', (page) => {
    const dead = linksOf(read(page)).filter(([path, anchor]) => {
      const target = path === '' ? page : join(dirname(page), path)
      if (!existsSync(join(REPO, target))) return true
      return anchor !== undefined && !anchorsOf(read(target)).includes(anchor)
    })
    expect(dead).toEqual([])
  })

  test('finds an error code of this package in the reference, whichever it is', () => {
    const codes = [...read('lib/errors.ts').matchAll(/\bERR_STREAM_[A-Z_]+/g)].map(([code]) => code)
    expect(codes).toContain('ERR_STREAM_LIMIT')
    expect(
      [...new Set(codes)].filter((code) => !read('docs/reference.md').includes(`| \`${code}\``)),
    ).toEqual([])
  })

  test('is not asked to read more than 220 lines first', () => {
    expect(read('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(220)
  })
})

describe("the README's commands", () => {
  test('name scripts that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(join(REPO, 'package.json'), 'utf8'))
    expect(shell.join('\n')).toContain('npm ci')
    expect(Object.keys(scripts)).toEqual(expect.arrayContaining(readNpmScripts(shell.join('\n'))))
  })
})

function read(page: string): string {
  return readFileSync(join(REPO, page), 'utf8')
}

/** What stands under a heading, up to the next of its level. */
function section(markdown: string, heading: string): string {
  const [, text] = markdown.split(`\n## ${heading}\n`)
  if (text === undefined) throw new Error(`There is no heading "${heading}"`)
  return text.split('\n## ')[0] as string
}

/** The names of the members of an interface that a file declares. */
function membersOf(file: string, type: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest)
  const found = source.statements.find((each) => ts.isInterfaceDeclaration(each) && each.name.text === type)
  if (!found) throw new Error(`${file} declares no interface ${type}`)
  return (found as ts.InterfaceDeclaration).members.map(({ name }) => (name as ts.Identifier).text)
}

/** The relative links of a page, as path and anchor; neither those in code nor those to other sites. */
function linksOf(markdown: string): (readonly [path: string, anchor?: string])[] {
  const text = markdown.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, 'code')
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link as string)
    .filter((link) => !link.includes('://'))
    .map((link) => link.split('#') as [string, string?])
}

/** The anchors that GitHub makes of the headings. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0)
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string')
    throw new Error('A server on a port has an address object')
  return address.port
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { method: 'HEAD' })
    await response.body?.cancel()
    return true
  } catch {
    return false
  }
}

/** Reads a stream up to the end of its first event, or to its own end. */
async function readUntilEvent(response: Response): Promise<string> {
  let text = ''
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk
    if (/^data: .*\n\n/m.test(text)) break
  }
  return text
}
