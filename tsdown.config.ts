import { defineConfig } from 'tsdown'

export default defineConfig({
  entry: { index: 'lib/index.ts' },
  format: ['esm', 'cjs'],
  platform: 'node',
  target: 'node20',
  fixedExtension: false,
  // The Standard Schema types are copied into ours, so that they are no dependency of the package.
  dts: true,
  deps: { alwaysBundle: ['@standard-schema/spec'] },
})
