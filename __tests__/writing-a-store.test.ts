import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { readCodeBlocks } from './support/package-readme.js'
import { REPO } from './support/package-tarball.js'

const run = promisify(execFile)

/** The files of the page's examples, by the names in their first lines. */
const examples = new Map(
  readCodeBlocks(readFileSync(join(REPO, 'docs/writing-a-store.md'), 'utf8')).map(({ code }) => [
    /^\/\/ (\S+\.ts)\n/.exec(code)?.[1] ?? '',
    code,
  ]),
)

const TSCONFIG = {
  compilerOptions: {
    module: 'preserve',
    moduleResolution: 'bundler',
    target: 'es2023',
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
    types: ['node', 'jest'],
    paths: {
      'express-sse-guard': [join(REPO, 'lib/index.ts')],
      'express-sse-guard/*': [join(REPO, 'lib/*.ts')],
    },
  },
  include: ['*.ts'],
}

/** What the example needs of vitest, which is not installed here, as vitest declares it. */
const VITEST = `
declare module 'vitest' {
  interface Suite { (name: string | Function, body?: (test: unknown) => unknown, options?: number): unknown }
  interface Test { (name: string | Function, body?: (context: { skip(note?: string): never }) => unknown, options?: number): void }
  export const describe: Suite
  export const test: Test
}`

// At once, because the tests of the suite must be declared before the first runs.
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'writing-a-store-')))
symlinkSync(join(REPO, 'node_modules'), join(folder, 'node_modules'), 'junction')
write({
  ...Object.fromEntries(examples),
  'vitest.d.ts': VITEST,
  'package.json': '{ "type": "module" }',
  'tsconfig.json': JSON.stringify(TSCONFIG),
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
}

test('docs/writing-a-store.md has the examples that are tested here, and no other', () => {
  expect([...examples.keys()]).toEqual([
    'lease-store.ts',
    'lease-store.test.ts',
    'lease-store.vitest.ts',
    'lease-store.node.ts',
    'redis-store.test.ts',
  ])
})

test('its examples compile', async () => {
  const compile = run(process.execPath, [join(REPO, 'node_modules/typescript/bin/tsc'), '-p', folder])
  expect((await compile.catch((error) => error)).stdout).toBe('')
}, 120_000)

// What it has for jest runs here.
require(join(folder, 'lease-store.test.ts'))

describe('what it has for node:test', () => {
  test('passes', async () => {
    const { counts, exitCode } = await runNodeTest('lease-store.node.ts')
    const { tests, pass, fail, skipped } = counts
    expect([fail, pass + skipped]).toEqual([0, tests])
    // What the store does not have is skipped.
    expect([pass > 20, skipped > 20]).toEqual([true, true])
    expect(exitCode).toBe(0)
  }, 120_000)

  test('fails when the store is wrong', async () => {
    const store = examples.get('lease-store.ts') ?? ''
    const suite = examples.get('lease-store.node.ts') ?? ''
    const wrong = store.replace('slots.size >= limit', 'slots.size > limit')
    expect(wrong).not.toBe(store)
    write({ 'wrong-store.ts': wrong, 'wrong-store.node.ts': suite.replace('./lease-store', './wrong-store') })
    const { counts, failed, exitCode } = await runNodeTest('wrong-store.node.ts')
    expect(counts.fail).toBe(failed.length)
    expect(failed).toContain('refuses every acquire against a limit of 0')
    expect(exitCode).toBe(1)
  }, 120_000)

  async function runNodeTest(file: string) {
    // Only what a shell would have: under NODE_TEST_CONTEXT, NODE_OPTIONS or JEST_WORKER_ID node:test or tsx may differ.
    const env = { PATH: process.env.PATH, TSX_TSCONFIG_PATH: join(folder, 'tsconfig.json') }
    const args = ['--import', 'tsx', '--test', '--test-reporter', 'tap', file]
    const { stdout, code = 0 }: { stdout: string; code?: number } = await run(process.execPath, args, {
      cwd: folder,
      env,
    }).catch((error) => error)
    const countOf = (what: string) => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout)?.[1])
    return {
      counts: {
        tests: countOf('tests'),
        pass: countOf('pass'),
        fail: countOf('fail'),
        skipped: countOf('skipped'),
      },
      failed: [...stdout.matchAll(/^ {8,}not ok \d+ - (.*)$/gm)].map(([, name]) => name),
      exitCode: code,
    }
  }
})
