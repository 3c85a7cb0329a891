import { defineConfig } from 'tsdown'

export default defineConfig({
  entry: { index: 'lib/index.ts', redis: 'lib/redis.ts', testing: 'lib/testing.ts' },
  format: ['esm', 'cjs'],
  platform: 'node',
  target: 'node20',
  fixedExtension: false,
  dts: true,
  // The Standard Schema types are copied into ours, so that they are no dependency of the package. Anything else
  // that would be copied in fails the build.
  deps: { alwaysBundle: ['@standard-schema/spec'], onlyBundle: ['@standard-schema/spec'] },
  // better-sse has a single types entry, of ESM kind. A CommonJS consumer under `module: node16` may use it only
  // through an import that says so (TS1479).
  inputOptions: (options, _format, { cjsDts }) => ({
    ...options,
    // No comments that say which file a piece came from: of a copied-in one that may be a path of this machine.
    experimental: { ...options.experimental, attachDebugInfo: 'none' },
    // On a busy machine it would tell newcomers, before the demo greets them, which plugin was slow.
    checks: { ...options.checks, pluginTimings: false },
    plugins: cjsDts ? [options.plugins, typesOfBetterSseAreEsm] : options.plugins,
  }),
})

const typesOfBetterSseAreEsm = {
  name: 'types-of-better-sse-are-esm',
  renderChunk: (code: string) =>
    code.replace(
      /^import (?:type )?(\{[^}]*\}) from "better-sse";$/m,
      'import type $1 from "better-sse" with { "resolution-mode": "import" };',
    ),
}
