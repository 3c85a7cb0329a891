import type { Config } from 'jest'

const config: Config = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  // Sources import each other as './x.js', which is what Node needs; jest loads the .ts behind it.
  moduleNameMapper: {
    '^express-sse-guard$': '<rootDir>/lib/index.ts',
    '^express-sse-guard/(.*)$': '<rootDir>/lib/$1.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  transform: {
    // Types are checked once, by `npm run types`; here every file is only transpiled.
    '^.+\\.[jt]s$': [
      'ts-jest',
      {
        tsconfig: {
          target: 'ES2023',
          module: 'CommonJS',
          esModuleInterop: true,
          isolatedModules: true,
          allowJs: true,
          rootDir: '.',
        },
      },
    ],
  },
  // Arktype is published as ES modules only, which jest on Node 20 cannot load as they are.
  transformIgnorePatterns: ['/node_modules/(?!(arktype|@ark|arkregex)/)'],
  setupFilesAfterEnv: ['<rootDir>/__tests__/support/write-mode.ts'],
  testTimeout: 60_000,
  // Most tests wait for sockets or for other processes, so two at a time suit two cores, and one does no harm.
  maxWorkers: 2,
  maxConcurrency: 2,
}

export default config
