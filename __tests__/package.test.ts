import { readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import ts from 'typescript'
import { type PackedPackage, packPackage, REPO } from './support/package-tarball.js'

let packed: PackedPackage

beforeAll(async () => {
  packed = await packPackage()
}, 60_000)

afterAll(() => packed?.remove())

const support = (file: string) => readFileSync(join(__dirname, 'support', file), 'utf8')

describe('the tarball', () => {
  test('holds the build, what npm shows of it, and nothing else', () => {
    expect([...packed.files].sort()).toEqual([
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'dist/index.cjs',
      'dist/index.d.cts',
      'dist/index.d.ts',
      'dist/index.js',
      'package.json',
    ])
  })

  test('names no folder of the machine it was built on', () => {
    const machine = [REPO, join(packed.folder, '../../..'), 'file://', 'sourceMappingURL']
    for (const file of packed.files) {
      const text = readFileSync(join(packed.folder, file), 'utf8')
      expect(machine.filter((path) => text.includes(path))).toEqual([])
    }
  })

  test.each(['index.js', 'index.cjs'])('needs http-errors, better-sse and Node to run %s', (file) => {
    expect(importsOf(file).filter((name) => !isBuiltin(name))).toEqual(['better-sse', 'http-errors'])
  })

  test.each(['index.d.ts', 'index.d.cts'])('needs the types of its peers and of Node in %s', (file) => {
    expect(importsOf(file).filter((name) => !name.startsWith('node:'))).toEqual(['better-sse', 'express'])
  })

  function importsOf(file: string): string[] {
    const text = readFileSync(join(packed.folder, 'dist', file), 'utf8')
    const { importedFiles } = ts.preProcessFile(text, true, true)
    return [...new Set(importedFiles.map(({ fileName }) => fileName))].sort()
  }
})

describe('a program on the packed package', () => {
  const VISIT = { 'visit.cjs': support('package-visit.cjs') }
  const VISITED = {
    finite: {
      status: 200,
      type: 'text/event-stream',
      text: expect.stringMatching(/^retry: ?2000\n\nevent: tick\ndata: \{"n":1\}\n\nretry: ?2147483647\n\n$/),
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
  ])(
    'compiles and infers with %j',
    async ({ type, ...options }) => {
      const compilerOptions = { ...options, target: 'es2023', strict: true, noEmit: true, types: ['node'] }
      const project = packed.project(`types-${type}-${options.module}-${options.skipLibCheck}`, {
        ...(options.skipLibCheck ? CONSUMERS : CONSUMER),
        'package.json': JSON.stringify({ type }),
        'tsconfig.json': JSON.stringify({ compilerOptions }),
      })
      expect(await packed.node(project, '../node_modules/typescript/bin/tsc', '-p', '.')).toBe('')
    },
    60_000,
  )
})
