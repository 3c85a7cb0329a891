import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import ts from 'typescript'

const LIB = join(__dirname, '../lib')

/** Every file of lib, and the files of lib it imports: `import type` and re-exports included. */
const importsOf = new Map(
  readdirSync(LIB, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.replaceAll('\\', '/'))
    .map((file) => [file, readImports(file)]),
)

function readImports(file: string): string[] {
  return ts
    .preProcessFile(readFileSync(join(LIB, file), 'utf8'))
    .importedFiles.map(({ fileName }) => fileName)
    .filter((name) => name.startsWith('.'))
    .map((name) => posix.join(posix.dirname(file), name).replace(/\.js$/, '.ts'))
}

/** The imports that one folder has of the other, as 'a.ts -> b.ts'. */
function edges(from: (file: string) => boolean, to: (file: string) => boolean): string[] {
  return [...importsOf].flatMap(([file, imports]) =>
    from(file) ? imports.filter(to).map((imported) => `${file} -> ${imported}`) : [],
  )
}

const isEntry = (file: string) =>
  ['index.ts', 'redis.ts', 'prometheus.ts', 'client.ts', 'testing.ts'].includes(file)
const roomOf = (file: string) => (isEntry(file) ? 'entry' : file.includes('/') ? file.split('/')[0] : 'leaf')
const isLeaf = (file: string) => roomOf(file) === 'leaf'

/** What the files of a room may import besides each other and the leaves. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  leaf: [],
  events: [],
  wire: [],
  store: [],
  limit: ['store'],
  stream: ['events', 'wire'],
  feed: ['events'],
  redis: ['store', 'feed'],
  testing: ['store', 'feed'],
  client: [],
}

describe('the imports of lib', () => {
  test('are all found', () => {
    expect([...importsOf.keys()]).toEqual(expect.arrayContaining(['index.ts', 'errors.ts']))
    expect(edges(isEntry, (file) => !isEntry(file))).not.toEqual([])
    const missing = [...importsOf.values()].flat().filter((file) => !importsOf.has(file))
    expect(missing).toEqual([])
  })

  test('make no circle, not even of types', () => {
    const done = new Set<string>()
    const visit = (file: string, path: string[]): void => {
      if (path.includes(file)) throw new Error(`A circle: ${[...path, file].join(' -> ')}`)
      if (done.has(file)) return
      for (const imported of importsOf.get(file) ?? []) visit(imported, [...path, file])
      done.add(file)
    }
    for (const file of importsOf.keys()) visit(file, [])
  })

  test('lead from each room only where the design allows', () => {
    const forbidden = [...importsOf].flatMap(([file, imports]) => {
      const room = roomOf(file) as string
      if (room === 'entry') return []
      const allowed = [room, 'leaf', ...(MAY_IMPORT[room] ?? [])]
      return imports
        .filter((imported) => !allowed.includes(roomOf(imported) as string))
        .map((imported) => `${file} -> ${imported}`)
    })
    expect(forbidden).toEqual([])
  })

  test('never lead to an entry, which is for users', () => {
    expect(edges(() => true, isEntry)).toEqual([])
  })

  test('lead from the index to nothing of Redis', () => {
    const reached = new Set(['index.ts'])
    for (const file of reached) for (const imported of importsOf.get(file) ?? []) reached.add(imported)
    expect([...reached].filter((file) => file.startsWith('redis'))).toEqual([])
  })

  test('know every room', () => {
    const rooms = new Set([...importsOf.keys()].map(roomOf))
    expect([...rooms].filter((room) => room !== 'entry' && !((room as string) in MAY_IMPORT))).toEqual([])
    expect([...importsOf.keys()].filter(isLeaf)).toEqual(expect.arrayContaining(['errors.ts', 'endings.ts']))
  })
})
