import { churn } from './support/churn.js'
import { describeWithRedis } from './support/redis-server.js'

const seed = Number(process.env.CHURN_SEED ?? Date.now() % 1_000_000)

describeWithRedis('clients that come and go while everything fails at random', () => {
  test(`leave the true count, nobody over the cap, and in the end nothing (CHURN_SEED=${seed})`, async () => {
    const figures = await churn({ durationMs: 60_000, seed })
    expect(figures.wrong).toEqual([])
    expect(figures.opened).toBeGreaterThan(100)
    expect(figures.refused).toBeGreaterThan(100)
    expect(Object.keys(figures.faults).length).toBeGreaterThan(3)
  }, 180_000)
})
