import { execFile } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { promisify } from 'node:util'
import { benchEvent, checkBenchData } from '../bench/lib/bench-event'
import { lineChart } from '../bench/lib/line-chart'
import { OpenStreams } from '../bench/lib/open-streams'
import { Reader } from '../bench/lib/reader'
import { compare } from '../bench/lib/report'
import { quartilesOf, ratiosOf, rotated } from '../bench/lib/statistics'
import { variant } from '../bench/variants/node-http'

const BENCH = resolve(__dirname, '../bench')
const arePeersInstalled = existsSync(resolve(BENCH, 'node_modules/hono'))

describe('the variants of the benchmark', () => {
  test('of the package, better-sse and plain Node deliver the same events', async () => {
    const modules = variantsIn('variants')
    expect(modules).toEqual(
      expect.arrayContaining(['variants/guard-events', 'variants/better-sse', 'variants/node-http']),
    )
    expect(await checkVariants(modules)).toEqual(modules)
  })

  // They are installed with `npm ci` in bench/.
  const testPeers = arePeersInstalled || process.env.CI ? test : test.skip
  if (!arePeersInstalled)
    process.stderr.write(
      'Left out: a test of the benchmark, whose peers are not installed (npm ci --prefix bench).\n',
    )
  testPeers('of other libraries do so too', async () => {
    const modules = variantsIn('peers')
    expect(modules).toContain('peers/hono')
    expect(await checkVariants(modules)).toEqual(modules)
  })
})

function variantsIn(folder: string): string[] {
  return readdirSync(resolve(BENCH, folder))
    .filter((file) => file.endsWith('.ts') && !['guarded.ts', 'write-frames.ts'].includes(file))
    .map((file) => `${folder}/${file.slice(0, -'.ts'.length)}`)
}

/** In a process of its own, since some are ES modules; with the package's sources. Rejects with what the first fault says. */
async function checkVariants(modules: string[]): Promise<string[]> {
  const tsx = resolve(__dirname, '../node_modules/tsx/dist/cli.mjs')
  const script = resolve(BENCH, 'lib/check-variants.ts')
  const args = [tsx, '--tsconfig', resolve(__dirname, 'tsconfig.json'), script, ...modules]
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 30_000 })
  return Object.keys(JSON.parse(stdout))
}

describe('the reader of the benchmark', () => {
  test('takes an event that is complete and in its place', () => {
    expect(() => checkBenchData(JSON.stringify(benchEvent(7).data), 7)).not.toThrow()
  })

  test.each([
    ['is another one', JSON.stringify(benchEvent(8).data)],
    ['has another text', JSON.stringify({ ...benchEvent(7).data, text: 'Hello' })],
    ['lacks its text', JSON.stringify({ index: 7 })],
    ['has a field more', JSON.stringify({ ...benchEvent(7).data, secret: 's3cret' })],
    ['is cut off', JSON.stringify(benchEvent(7).data).slice(0, -1)],
  ])('takes no event that %s', (_what, text) => {
    expect(() => checkBenchData(text, 7)).toThrow()
  })

  test('fails the run when an event is missing, and when a stream breaks off', async () => {
    const streams = new OpenStreams()
    const { port, close } = await variant.start(streams, {})
    const openReader = async () => {
      const reader = new Reader()
      await reader.open({ port, eventName: 'token', ownEvents: [] }, 2, streams.nextIndex)
      return reader
    }

    const reader = await openReader()
    await Promise.all([reader.read(2), streams.send(1, 2)])
    streams.nextIndex += 1
    await Promise.all([expect(reader.read(1)).rejects.toThrow('event 2 arrived as'), streams.send(1, 1)])
    await expect(reader.close()).rejects.toThrow('event 2 arrived as')

    const other = await openReader()
    const reading = expect(other.read(1)).rejects.toThrow(/aborted|broke off/)
    close()
    await reading
  })
})

describe('the statistics of the benchmark', () => {
  test('are medians and quartiles, interpolated between two figures', () => {
    expect(quartilesOf([5, 1, 4, 2, 3])).toEqual({ lower: 2, median: 3, upper: 4 })
    expect(quartilesOf([1, 2, 3, 4])).toEqual({ lower: 1.75, median: 2.5, upper: 3.25 })
    expect(quartilesOf([7])).toEqual({ lower: 7, median: 7, upper: 7 })
    expect(() => quartilesOf([])).toThrow()
  })

  test('compare two subjects round by round, so that a slow round slows both', () => {
    expect(ratiosOf([2, 20, 4], [1, 10, 2])).toEqual([2, 2, 2])
    expect(() => ratiosOf([1, 2], [1])).toThrow()
    const samples = new Map([
      ['ours', [[3, 30], [6]]],
      ['theirs', [[2, 20], [2]]],
    ])
    expect(compare(samples, 'ours', 'theirs')).toEqual({
      ours: 'ours',
      theirs: 'theirs',
      ratio: { lower: 1.5, median: 1.5, upper: 2.25 },
      generations: [1.5, 3],
    })
  })

  test('come from rounds in which each subject is once in each place', () => {
    const orders = [0, 1, 2].map((round) => rotated(['a', 'b', 'c'], round).join(''))
    expect(orders).toEqual(['abc', 'bca', 'cab'])
    expect(rotated(['a', 'b', 'c'], 3)).toEqual(['a', 'b', 'c'])
  })
})

test('the chart of the benchmark has a line and a name for each variant, and escapes both', () => {
  const svg = lineChart({
    title: 'A & B',
    xTitle: 'streams',
    yTitle: 'CPU',
    xLabels: ['1', '10'],
    lines: [
      { name: '<ours>', values: [1, 2] },
      { name: 'theirs', values: [1.2, 2] },
    ],
  })
  expect(svg.match(/<polyline /g)).toHaveLength(2)
  expect(svg).toContain('A &amp; B')
  expect(svg).toContain('>&lt;ours></text>')
  expect(svg).not.toMatch(/NaN|undefined/)
})
