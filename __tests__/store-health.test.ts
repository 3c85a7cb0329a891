import { StoreHealth } from '../lib/limit/store-health.js'

// What a failing store does to requests is tested in store-outage.test.ts; here its clock is set by hand.

let warn: jest.SpyInstance
let waits: number[]

beforeEach(() => {
  jest.useFakeTimers()
  warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { setTimeout } = globalThis
  waits = []
  jest.spyOn(globalThis, 'setTimeout').mockImplementation(((run: () => void, ms: number) => {
    waits.push(ms)
    return setTimeout(run, ms)
  }) as never)
})

afterEach(() => {
  jest.restoreAllMocks()
  jest.useRealTimers()
})

test('the wait for a store without leases doubles up to 5 s', async () => {
  const health = new StoreHealth(() => Promise.reject(new Error('away')), Infinity, '')
  health.open(new Error('away'))
  await jest.advanceTimersByTimeAsync(20_000)
  expect(waits.slice(0, 8)).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000])
})

test('a store that is away again at once is not warned of again, and is asked less often', async () => {
  const health: StoreHealth = new StoreHealth(async () => health.close(), Infinity, 'So be it.')
  for (let i = 0; i < 3; i++) {
    health.open(new Error('away.'))
    await jest.advanceTimersByTimeAsync(1000)
    expect(health.isOpen).toBe(false)
  }
  expect([waits, warn.mock.calls.map(([text]) => text)]).toEqual([
    [100, 200, 400],
    ['The slot store failed: away. So be it.'],
  ])
})

test('a store that is away again after it was back for 5 s is a new health', async () => {
  const health: StoreHealth = new StoreHealth(async () => health.close(), Infinity, '')
  for (let i = 0; i < 2; i++) {
    health.open(new Error('away'))
    await jest.advanceTimersByTimeAsync(5200)
  }
  expect([waits, warn.mock.calls.length]).toEqual([[100, 100], 2])
})
