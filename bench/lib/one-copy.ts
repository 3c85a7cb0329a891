import { createRequire } from 'node:module'

/** Throws if the package and the other variants would run on different copies of what they share. */
export function checkOneCopy(): void {
  const here = createRequire(import.meta.url)
  const fromPackage = createRequire(new URL('../../dist/index.js', import.meta.url))
  for (const name of ['express', 'better-sse', 'zod']) {
    if (here.resolve(name) === fromPackage.resolve(name)) continue
    throw new Error(`There are two copies of ${name}: run npm ci in bench/ again`)
  }
}
