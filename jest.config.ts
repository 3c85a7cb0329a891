import type { Config } from 'jest'

const config: Config = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  // Sources import each other as './x.js', which is what Node needs; jest loads the .ts behind it.
  moduleNameMapper: {
    '^express-sse-guard$': '<rootDir>/lib/index.ts',
    '^(\\.{1,2}/.*)\\.js$': '$1',
  },
  transform: {
    // Types are checked once, by `npm run types`; here every file is only transpiled.
    '^.+\\.ts$': [
      'ts-jest',
      {
        tsconfig: {
          target: 'ES2023',
          module: 'CommonJS',
          esModuleInterop: true,
          isolatedModules: true,
        },
      },
    ],
  },
  testTimeout: 30_000,
}

export default config
