import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join, posix } from 'node:path'
import ts from 'typescript'
import { type PackedPackage, packPackage, REPO } from './support/package-tarball.js'

let packed: PackedPackage

beforeAll(async () => {
  packed = await packPackage()
}, 120_000)

afterAll(() => packed?.remove())

const support = (file: string) => readFileSync(join(__dirname, 'support', file), 'utf8')

describe('the tarball', () => {
  test('holds the build, what npm shows of it, and nothing else', () => {
    const entries = ['index', 'redis', 'testing'].flatMap((name) =>
      ['cjs', 'd.cts', 'd.ts', 'js'].map((ending) => `dist/${name}.${ending}`),
    )
    const isShared = (file: string) => /^dist\/[a-z-]+-[\w-]{8}\.(js|cjs|d\.ts|d\.cts)$/.test(file)
    const isPage = (file: string) => /^docs\/([\w-]+\/)?[\w-]+\.md$/.test(file)
    expect(packed.files.filter((file) => !isShared(file) && !isPage(file)).sort()).toEqual(
      [
        'CHANGELOG.md',
        'CONTRIBUTING.md',
        'LICENSE',
        'README.md',
        'SECURITY.md',
        ...entries,
        'package.json',
      ].sort(),
    )
  })

  test('holds every page to which the README and its pages link', () => {
    const pages = packed.files.filter((file) => /^(README|docs\/[\w-]+)\.md$/.test(file))
    expect(pages.length).toBeGreaterThan(8)
    const linked = pages.flatMap((page) => {
      const text = readFileSync(join(packed.folder, page), 'utf8')
      const links = [...text.matchAll(/\]\(([^)\s#:]+\.md|LICENSE)\b/g)].map(([, link]) => link as string)
      return links.map((link) => posix.join(posix.dirname(page), link))
    })
    expect(linked.filter((file) => !packed.files.includes(file))).toEqual([])
  })

  test('names no folder of the machine it was built on', () => {
    const machine = [REPO, join(packed.folder, '../../..'), 'file://', 'sourceMappingURL']
    for (const file of packed.files) {
      const text = readFileSync(join(packed.folder, file), 'utf8')
      expect(machine.filter((path) => text.includes(path))).toEqual([])
    }
  })

  test('is installed by npm beside Express 4.18 and 5', () => {
    const { peerDependencies } = JSON.parse(readFileSync(join(packed.folder, 'package.json'), 'utf8'))
    expect(peerDependencies.express).toBe('^4.18.0 || ^5.0.0')
  })

  test.each(['index.js', 'index.cjs'])('needs http-errors, better-sse and Node to run %s', (file) => {
    expect(reachedFrom(file).packages).toEqual(['better-sse', 'http-errors'])
  })

  test.each(['redis.js', 'redis.cjs', 'testing.js', 'testing.cjs'])(
    'needs http-errors and Node to run %s',
    (file) => {
      expect(reachedFrom(file).packages).toEqual(['http-errors'])
    },
  )

  test.each(['index.js', 'index.cjs'])('loads no code for Redis, and none for tests, with %s', (file) => {
    const isOfAnother = (text: string) => /EVALSHA|ZADD|node:assert|MAX_REAL_LEASE/.test(text)
    expect(reachedFrom(file).files.filter(({ text }) => isOfAnother(text))).toEqual([])
    expect(
      reachedFrom(file.replace('index', 'redis')).files.filter(({ text }) => isOfAnother(text)),
    ).not.toEqual([])
    expect(
      reachedFrom(file.replace('index', 'testing')).files.filter(({ text }) => isOfAnother(text)),
    ).not.toEqual([])
  })

  test.each(['index.d.ts', 'index.d.cts'])('needs the types of its peers and of Node in %s', (file) => {
    expect(reachedFrom(file).packages).toEqual(['better-sse', 'express'])
  })

  test.each(['redis.d.ts', 'redis.d.cts'])('needs no types of a client of Redis in %s', (file) => {
    expect(reachedFrom(file).packages).toEqual([])
  })

  /** The files that are loaded with one of them, and the packages they need. */
  function reachedFrom(file: string) {
    const files = new Map<string, string>()
    const packages = new Set<string>()
    const visit = (name: string): void => {
      if (files.has(name)) return
      const text = readFileSync(join(packed.folder, 'dist', name), 'utf8')
      files.set(name, text)
      for (const { fileName } of ts.preProcessFile(text, true, true).importedFiles) {
        if (!fileName.startsWith('.')) packages.add(fileName)
        else if (!file.includes('.d.')) visit(fileName.slice(2))
        else visit(fileName.slice(2).replace(/\.(c?)js$/, '.d.$1ts'))
      }
    }
    visit(file)
    return {
      files: [...files].map(([name, text]) => ({ name, text })),
      packages: [...packages].filter((name) => !isBuiltin(name)).sort(),
    }
  }
})

describe('a program on the packed package', () => {
  const VISIT = { 'visit.cjs': support('package-visit.cjs') }
  const VISITED = {
    finite: {
      status: 200,
      type: 'text/event-stream',
      text: expect.stringMatching(/^retry: 2000\nevent: tick\ndata: \{"n":1\}\n\nretry: 2147483647\n$/),
    },
    opened: 200,
    refused: { status: 429, type: 'application/problem+json', code: 'ERR_STREAM_LIMIT' },
    open: [1, 0],
  }

  test('streams and refuses as an ES module, and then ends by itself', async () => {
    const project = packed.project('esm', {
      ...VISIT,
      'package.json': '{ "type": "module" }',
      'main.js': `
        import express from 'express'
        import * as guard from 'express-sse-guard'
        import visit from './visit.cjs'
        console.log(JSON.stringify(await visit(express, guard)))`,
    })
    expect(JSON.parse(await packed.node(project, 'main.js'))).toEqual(VISITED)
  })

  test('streams and refuses as a CommonJS module, and then ends by itself', async () => {
    const project = packed.project('commonjs', {
      ...VISIT,
      'package.json': '{ "type": "commonjs" }',
      'main.js': `
        const visit = require('./visit.cjs')
        visit(require('express'), require('express-sse-guard')).then((visited) => console.log(JSON.stringify(visited)))`,
    })
    expect(JSON.parse(await packed.node(project, 'main.js'))).toEqual(VISITED)
  })

  test('streams and refuses on Express 4', async () => {
    const main = `
      const visit = require('./visit.cjs')
      const { version } = require('express/package.json')
      visit(require('express'), require('express-sse-guard')).then((visited) => console.log(JSON.stringify([version, visited])))`
    const project = packed.project('express-4', { ...VISIT, 'main.cjs': main }, { express: 'express4' })
    expect(JSON.parse(await packed.node(project, 'main.cjs'))).toEqual([
      expect.stringMatching(/^4\./),
      VISITED,
    ])
  })

  test.each([
    { fromCommonJs: ['defineEvents', 'streamEvents', 'problemJson'] },
    { fromCommonJs: ['openSession', 'streamLimit'] },
  ])('may have both copies and mix them: $fromCommonJs from CommonJS', async ({ fromCommonJs }) => {
    const project = packed.project(`mixed-${fromCommonJs[0]}`, {
      ...VISIT,
      'main.mjs': `
        import { createRequire } from 'node:module'
        import express from 'express'
        import * as esm from 'express-sse-guard'
        import visit from './visit.cjs'
        const cjs = createRequire(import.meta.url)('express-sse-guard')
        const parts = { ...esm }
        for (const name of ${JSON.stringify(fromCommonJs)}) {
          if (cjs[name] === esm[name]) throw new Error('There is only one copy')
          parts[name] = cjs[name]
        }
        console.log(JSON.stringify(await visit(express, parts)))`,
    })
    expect(JSON.parse(await packed.node(project, 'main.mjs'))).toEqual(VISITED)
  })
})

describe('the other entries of the packed package', () => {
  const SHARED = `
    const store = new RedisStore({ sendCommand: async () => [1, 1] })
    store.acquire('alice', '1', 5).then(({ granted }) => console.log(granted))`
  const TESTED = `
    describeSlotStore('MemoryStore', () => new MemoryStore(), require('node:test'))`

  test('work as ES modules', async () => {
    const project = packed.project('entries-esm', {
      'package.json': '{ "type": "module" }',
      'redis.js': `import { RedisStore } from 'express-sse-guard/redis'${SHARED}`,
      'testing.js': `
        import { createRequire } from 'node:module'
        import { MemoryStore } from 'express-sse-guard'
        import { describeSlotStore } from 'express-sse-guard/testing'
        const require = createRequire(import.meta.url)${TESTED}`,
    })
    expect(await packed.node(project, 'redis.js')).toBe('true\n')
    expect(await packed.node(project, '--test', 'testing.js')).toMatch(/# fail 0/)
  })

  test('work as CommonJS modules', async () => {
    const project = packed.project('entries-cjs', {
      'package.json': '{ "type": "commonjs" }',
      'redis.js': `const { RedisStore } = require('express-sse-guard/redis')${SHARED}`,
      'testing.js': `
        const { MemoryStore } = require('express-sse-guard')
        const { describeSlotStore } = require('express-sse-guard/testing')${TESTED}`,
    })
    expect(await packed.node(project, 'redis.js')).toBe('true\n')
    expect(await packed.node(project, '--test', 'testing.js')).toMatch(/# fail 0/)
  })

  test('may end a stream through a limiter of the one copy whose session is of the other', async () => {
    const project = packed.project('entries-mixed', {
      'main.mjs': `
        import { createRequire } from 'node:module'
        import express from 'express'
        import { MemoryStore, streamLimit } from 'express-sse-guard'
        const require = createRequire(import.meta.url)
        const { defineEvents, openSession, streamEvents } = require('express-sse-guard')
        let end
        class Store extends MemoryStore {
          acquire(key, slotId, limit) {
            this.slotId = slotId
            return super.acquire(key, slotId, limit)
          }
          watch(onEnded) {
            end = () => onEnded([this.slotId], 'kicked')
          }
        }
        const app = express()
        app.get('/', streamLimit({ keyGenerator: () => 'a', store: new Store() }), async (req, res) => {
          const session = await openSession(req, res, { events: defineEvents({ a: true }) })
          setImmediate(() => end())
          const { endedBy } = await streamEvents(session, async function* (signal) {
            await new Promise((resolve) => signal.addEventListener('abort', resolve))
          })
          console.log(endedBy)
          server.close()
        })
        const server = app.listen(0, '127.0.0.1', async () => {
          await (await fetch('http://127.0.0.1:' + server.address().port)).text()
        })`,
    })
    expect(await packed.node(project, 'main.mjs')).toBe('kicked\n')
  })
})

describe('a strict TypeScript program on the packed package', () => {
  // Schemas only without the check of libraries: checking all of zod's types takes longer than the rest together.
  const CONSUMER = { 'consumer.ts': support('package-consumer.ts') }
  const CONSUMERS = { ...CONSUMER, 'consumer-schema.ts': support('package-consumer-schema.ts') }

  test.concurrent.each([
    { type: 'module', module: 'nodenext', skipLibCheck: true },
    { type: 'module', module: 'node16', skipLibCheck: true },
    { type: 'module', module: 'preserve', moduleResolution: 'bundler', skipLibCheck: true },
    { type: 'module', module: 'nodenext', skipLibCheck: false },
    // The one that sees whether a CommonJS declaration file reaches for better-sse's, which is for ES modules.
    { type: 'commonjs', module: 'node16', skipLibCheck: false },
    { type: 'module', module: 'nodenext', skipLibCheck: false, express: 4 },
  ])(
    'compiles and infers with %j',
    async ({ type, express = 5, ...options }) => {
      const compilerOptions = { ...options, target: 'es2023', strict: true, noEmit: true, types: ['node'] }
      const project = packed.project(
        `types-${type}-${options.module}-${options.skipLibCheck}-${express}`,
        {
          ...(options.skipLibCheck ? CONSUMERS : CONSUMER),
          'package.json': JSON.stringify({ type }),
          'tsconfig.json': JSON.stringify({ compilerOptions }),
        },
        express === 4 ? { express: 'express4', '@types/express': '@types/express4' } : {},
      )
      expect(await packed.node(project, '../node_modules/typescript/bin/tsc', '-p', '.')).toBe('')
    },
    60_000,
  )
})
