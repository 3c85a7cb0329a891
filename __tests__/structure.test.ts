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

const inLimit = (file: string) => file.startsWith('limit/')
const inStream = (file: string) => file.startsWith('stream/')
const isIndex = (file: string) => file === 'index.ts'
const isEntry = (file: string) => ['index.ts', 'redis.ts', 'testing.ts'].includes(file)
const isShared = (file: string) => !file.includes('/') && !isEntry(file)

describe('the imports of lib', () => {
  test('are all found', () => {
    expect([...importsOf.keys()]).toEqual(expect.arrayContaining(['index.ts', 'errors.ts']))
    expect(edges(isIndex, inLimit)).not.toEqual([])
    expect(edges(isIndex, inStream)).not.toEqual([])
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

  test('keep the limiter and the streaming half apart', () => {
    expect(edges(inLimit, inStream)).toEqual([])
    expect(edges(inStream, inLimit)).toEqual([])
  })

  test('never lead to an entry, which is for users', () => {
    expect(edges(() => true, isEntry)).toEqual([])
  })

  test('lead from the index to nothing of Redis', () => {
    const reached = new Set(['index.ts'])
    for (const file of reached) for (const imported of importsOf.get(file) ?? []) reached.add(imported)
    expect([...reached].filter((file) => file.includes('redis'))).toEqual([])
  })

  test('lead from the shared files to neither half', () => {
    expect(edges(isShared, (file) => inLimit(file) || inStream(file))).toEqual([])
  })
})
