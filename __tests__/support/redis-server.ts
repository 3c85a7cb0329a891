import { execFileSync } from 'node:child_process'
import { servers } from './redis-process.js'

export { RedisServer, startCluster } from './redis-process.js'

/** Whether there is a redis-server to test with. With `CI` set a missing one is a failure and not a reason to skip. */
const hasRedis = (() => {
  try {
    execFileSync('redis-server', ['--version'])
    return true
  } catch (error) {
    if (process.env.CI) throw new Error('There is no redis-server, which CI=true requires', { cause: error })
    return false
  }
})()

/** `describe`, or with no redis-server on this machine one line that says what was left out. */
export const describeWithRedis: jest.Describe = hasRedis ? describe : describe.skip

if (!hasRedis) process.stderr.write('Left out: tests that need redis-server, which is not installed.\n')

afterAll(async () => {
  await Promise.all([...servers].map((server) => server.remove()))
})
