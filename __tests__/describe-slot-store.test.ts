import { AssertionError } from 'node:assert'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryStore, type SlotStore } from 'express-sse-guard'
import { describeSlotStore } from 'express-sse-guard/testing'
import * as brokenStores from './support/broken-stores.js'
import { type Clock, FullStore } from './support/full-store.js'

type Create = Parameters<typeof describeSlotStore>[1]
type StoreClass = new (clock: Clock) => SlotStore

interface Report {
  errors: Error[]
  passed: string[]
  failed: string[]
  skipped: string[]
}

/** Runs the suite, or one test of it, without a test framework and tells how each test ended. */
async function judge(create: Create, only?: string): Promise<Report> {
  const titles: string[] = []
  const tests: { name: string; body(context: { skip(): void }): Promise<void> }[] = []
  describeSlotStore('Store', create, {
    describe: (title, body) => {
      titles.push(title)
      body()
      titles.pop()
    },
    test: (sentence, body) => tests.push({ name: [...titles.slice(1), sentence].join(': '), body }),
  })
  const report: Report = { errors: [], passed: [], failed: [], skipped: [] }
  for (const { name, body } of tests.filter((one) => only === undefined || one.name === only)) {
    let outcome: 'passed' | 'failed' | 'skipped' = 'passed'
    const skip = () => {
      outcome = 'skipped'
    }
    await body({ skip }).catch((error) => {
      outcome = 'failed'
      report.errors.push(error)
    })
    report[outcome].push(name)
  }
  return report
}

/** Runs the suite over a store whose clock it sets. */
function judgeWithClock(Store: StoreClass): Promise<Report> {
  return judge(() => {
    const clock = { now: 0 }
    return {
      store: new Store(clock),
      elapse: (ms) => {
        clock.now += ms
      },
    }
  })
}

describe('describeSlotStore', () => {
  test('finds nothing wrong with MemoryStore, and skips what it does not have', async () => {
    const { passed, failed, skipped } = await judge(() => new MemoryStore())
    expect(failed).toEqual([])
    expect(passed.filter((name) => !name.startsWith('as every store: '))).toEqual([])
    expect(skipped.map((name) => name.split(': ')[0])).toEqual(
      expect.arrayContaining(['with leaseMs', 'with kick', 'with evictOldest', 'with watch', 'with list']),
    )
  })

  test('finds nothing wrong with a store that has everything, and skips nothing', async () => {
    expect(await judgeWithClock(FullStore)).toMatchObject({ failed: [], skipped: [] })
  })

  test('finds much wrong with a counter that has a time to live', async () => {
    const { failed } = await judgeWithClock(brokenStores.CounterWithTtl)
    expect(failed).toEqual([
      'as every store: shares its slots with other processes',
      'as every store: grants a slot again that is held already, and does not count it twice',
      'as every store: grants a slot again that is held already, also when the key is full or over its limit',
      'as every store: counts a slot once that is acquired several times at the same moment',
      'as every store: keeps nothing of an acquire that it refused',
      'as every store: does nothing when a slot is released a second time',
      'as every store: frees one place when a slot is released several times at the same moment',
      'as every store: does nothing when a slot is released that it does not know',
      'as every store: does nothing when a slot is released under the key of another',
      'as every store: never frees a newer slot by the release of an older one',
      'as every store: counts 0 for a key it has never seen, and never less',
      'as every store: keeps the slots of a key apart, whatever their ids are',
      'as every store: evicts the oldest when asked to, or refuses as if it were not asked',
      'with leaseMs: grants the place of a slot that was not renewed in time',
      'with leaseMs: keeps a slot as long as it is renewed, and forgets those beside it',
      'with leaseMs: grants a slot again that is held already, between two renewals',
      'with leaseMs: takes an expired slot anew, if there is room',
      'with leaseMs: does nothing when an expired slot is released',
      'with leaseMs: says of a released slot that it is lost, and does not bring it back',
      'with leaseMs: says of a slot that it does not know that it is lost, and does not take it',
      'with leaseMs: answers in the order of the leases, for a thousand of many keys',
    ])
  })

  // Of all tests that fail for a store, those that are about what is wrong with it.
  const symptoms: [StoreClass, string[]][] = [
    [
      brokenStores.ReleaseWithoutIdentity,
      [
        'as every store: does nothing when a slot is released a second time',
        'as every store: does nothing when a slot is released that it does not know',
        'as every store: does nothing when a slot is released under the key of another',
        'as every store: never frees a newer slot by the release of an older one',
        'with leaseMs: does nothing when an expired slot is released',
      ],
    ],
    [brokenStores.ReleaseDoesNothing, ['as every store: frees by a release the place of that slot']],
    [
      brokenStores.AcquireInTwoSteps,
      [
        'as every store: grants of simultaneous acquires exactly as many as the limit',
        'as every store: grants exactly as many when they come from two processes',
        'as every store: never has more than the limit inside while slots come and go',
        'with evictOldest: lets simultaneous acquires end one another, and never holds more than the limit',
      ],
    ],
    [
      brokenStores.AcquireRefusesWhatIsHeld,
      [
        'as every store: grants a slot again that is held already, also when the key is full or over its limit',
      ],
    ],
    [
      brokenStores.AcquireCountsTwice,
      [
        'as every store: grants a slot again that is held already, and does not count it twice',
        'as every store: counts a slot once that is acquired several times at the same moment',
        'with leaseMs: grants a slot again that is held already, between two renewals',
        'with evictOldest: ends none for a slot that is held already',
      ],
    ],
    [
      brokenStores.AcquireKeepsWhatItRefused,
      [
        'as every store: grants slots up to the limit, then refuses, and says each time how many are held',
        'as every store: keeps nothing of an acquire that it refused',
        'as every store: refuses every acquire against a limit of 0',
        'with leaseMs: says of a slot that it does not know that it is lost, and does not take it',
      ],
    ],
    [
      brokenStores.AcquireCutsToTheLimit,
      [
        'as every store: keeps what is held when the limit shrinks, and grants none until fewer are held',
        'as every store: takes slots over the limit with Infinity, and then none until fewer than the limit are held',
      ],
    ],
    [brokenStores.InfinityIsNothing, ['as every store: refuses none against a limit of Infinity']],
    [brokenStores.KeysInAPattern, ['as every store: keeps keys apart, whatever they are called']],
    [brokenStores.LeasesWithoutRenewal, ['with leaseMs: says how long a slot lives, and can renew']],
    [
      brokenStores.NeverForgets,
      [
        'with leaseMs: forgets a slot that is not renewed in time',
        'with leaseMs: grants the place of a slot that was not renewed in time',
        'with leaseMs: takes an expired slot anew, if there is room',
        'with kick: does not kick a slot that has expired',
        'with evictOldest: does not evict a slot that has expired',
        'with list: does not list a slot that has expired',
      ],
    ],
    [
      brokenStores.ForgetsTooEarly,
      ['with leaseMs: keeps a slot as long as it is renewed, and forgets those beside it'],
    ],
    [
      brokenStores.RenewRevives,
      [
        'with leaseMs: says of an expired slot that it is lost, and does not bring it back',
        'with leaseMs: says of a released slot that it is lost, and does not bring it back',
        'with kick: says at the next renewal that a slot was kicked, and does not bring it back',
        'with evictOldest: says at the next renewal that a slot was evicted, and does not bring it back',
      ],
    ],
    [
      brokenStores.RenewRevivesQuietly,
      [
        'with leaseMs: says of an expired slot that it is lost, and does not bring it back',
        'with leaseMs: says of a released slot that it is lost, and does not bring it back',
        'with kick: says at the next renewal that a slot was kicked, and does not bring it back',
        'with evictOldest: says at the next renewal that a slot was evicted, and does not bring it back',
      ],
    ],
    [
      brokenStores.RenewAnswersByKey,
      ['with leaseMs: answers in the order of the leases, for a thousand of many keys'],
    ],
    [brokenStores.RenewWantsALease, ['with leaseMs: renews nothing when asked for nothing']],
    [
      brokenStores.KickWithoutTombstone,
      [
        'with kick: says at the next renewal that a slot was kicked, and does not bring it back',
        'with kick: still says so one lease later',
      ],
    ],
    [
      brokenStores.KickBarsTheKey,
      [
        'with kick: lets in a stream that opens after the kick',
        'with kick: either ends a stream that opens at the same moment, or leaves it alone',
      ],
    ],
    [brokenStores.KicksEverybody, ['with kick: leaves the slots of other keys alone']],
    [brokenStores.KickWantsAKnownKey, ['with kick: returns nothing for a key that it does not know']],
    [brokenStores.EvictsNewest, ['with evictOldest: ends the oldest slot of a full key, and says which']],
    [
      brokenStores.EvictsByRenewal,
      [
        'with evictOldest: takes the slot for the oldest that was acquired first, not the one that was renewed or asked for longest ago',
        'with list: lists the slots that a key holds, the oldest first',
      ],
    ],
    [brokenStores.EvictsOneOnly, ['with evictOldest: ends as many as a limit that has shrunk asks for']],
    [brokenStores.EvictsForALimitOf0, ['with evictOldest: refuses against a limit of 0, and ends none']],
    [brokenStores.EvictsAlways, ['with evictOldest: ends none while there is room']],
    [brokenStores.EvictsOfEveryKey, ['with evictOldest: leaves the slots of other keys alone']],
    [
      brokenStores.EvictsWithoutTombstone,
      [
        'with evictOldest: says at the next renewal that a slot was evicted, and does not bring it back',
        'with evictOldest: still says so one lease later',
      ],
    ],
    [brokenStores.ListsNewestFirst, ['with list: lists the slots that a key holds, the oldest first']],
    [brokenStores.ListsWithoutMeta, ['with list: keeps what is said of a slot when it is acquired']],
    [brokenStores.ListWantsAKnownKey, ['with list: lists nothing for a key that holds none']],
    [brokenStores.ListsWhatWasEnded, ['with list: does not list a slot that was kicked']],
    [brokenStores.WatchThrows, ['with watch: works on when it is watched']],
    [
      brokenStores.ProlongsInTurn,
      [
        'with leaseMs: keeps the slots of keys that are renewed in turn, each by calls of its own, for more than three leases',
      ],
    ],
    [
      brokenStores.EndsQuietly,
      [
        'with watch: tells what its own kick has ended before the kick is answered',
        'with watch: tells what its own acquire has evicted before that is answered',
      ],
    ],
  ]
  for (const [Store, sentences] of symptoms) {
    test(`sees what is wrong with ${Store.name}`, async () => {
      const { failed } = await judgeWithClock(Store)
      expect(failed).toEqual(expect.arrayContaining(sentences))
    })
  }

  test('has no sentence that every store keeps', async () => {
    const { passed } = await judgeWithClock(FullStore)
    const reports = await Promise.all(Object.values(brokenStores).map(judgeWithClock))
    const failed = new Set(reports.flatMap((report) => report.failed))
    expect(passed.filter((name) => !failed.has(name))).toEqual([])
  })
})

describe('a test of describeSlotStore', () => {
  test('makes a store, and closes it however it ends', async () => {
    const open = new Set<SlotStore>()
    let made = 0
    const create = (Store: StoreClass) => () => {
      const store = new Store({ now: 0 })
      made += 1
      open.add(store)
      return { store, elapse: () => {}, close: () => open.delete(store) }
    }
    const { passed } = await judge(create(FullStore))
    const { failed } = await judge(create(brokenStores.ReleaseDoesNothing))
    expect([passed.length > 0, failed.length > 0, made > passed.length, open.size]).toEqual([
      true,
      true,
      true,
      0,
    ])
  })

  test('closes store and peer by their own close, if it is given none', async () => {
    const closed: string[] = []
    class Closing extends MemoryStore {
      constructor(readonly name: string) {
        super()
      }

      close() {
        closed.push(this.name)
      }
    }
    const { passed, skipped } = await judge(() => ({
      store: new Closing('store'),
      peer: new Closing('peer'),
    }))
    const tests = passed.length + skipped.length
    expect(closed.filter((name) => name === 'store').length).toBeGreaterThanOrEqual(tests)
    expect(closed.filter((name) => name === 'store').length).toBe(
      closed.filter((name) => name === 'peer').length,
    )

    closed.length = 0
    await judge(async () => new Closing('bare'))
    expect(new Set(closed)).toEqual(new Set(['bare']))
  })

  test('fails when closing does, but tells of what failed before', async () => {
    const close = () => {
      throw new Error('cannot close')
    }
    const sentence = 'as every store: does nothing when a slot is released a second time'
    const passing = await judge(() => ({ store: new MemoryStore(), close }), sentence)
    expect(passing.errors).toEqual([new Error('cannot close')])
    const store = () => new brokenStores.CounterWithTtl({ now: 0 })
    const failing = await judge(() => ({ store: store(), elapse: () => {}, close }), sentence)
    expect(failing.errors).toEqual([expect.any(AssertionError)])
  })

  describe('on a machine that is busy while a lease runs', () => {
    const SENTENCE = 'as every store: does nothing when a slot is released a second time'
    const clock = {
      get now() {
        return performance.now()
      },
    }

    /** A store whose slots expire while it is asked to acquire. */
    class Slow extends FullStore {
      override readonly leaseMs: number = 200

      override async acquire(key: string, slotId: string, limit: number) {
        await sleep(150)
        return super.acquire(key, slotId, limit)
      }
    }

    test('is tried again on another store', async () => {
      let made = 0
      const create = () => {
        made += 1
        return made === 1 ? new Slow(clock) : new FullStore(clock)
      }
      expect(await judge(create, SENTENCE)).toMatchObject({ passed: [SENTENCE] })
      expect(made).toBe(2)
    })

    test('fails if it was too slow each time, and says so', async () => {
      const {
        errors: [error],
      } = await judge(() => new Slow(clock), SENTENCE)
      expect(error?.message).toMatch(
        /Slots may rightly have expired: in each of 5 attempts .* leaseMs is 200\. Test with a longer/,
      )
      expect(error?.cause).toBeInstanceOf(AssertionError)
    })

    test('fails at once if it was not slow', async () => {
      let made = 0
      const { failed } = await judge(() => {
        made += 1
        return new brokenStores.CounterWithTtl(clock)
      }, SENTENCE)
      expect([failed, made]).toEqual([[SENTENCE], 1])
    })
  })
})

describe('describeSlotStore says what to type', () => {
  const globals = globalThis as { describe?: unknown; test?: unknown; it?: unknown }
  const { describe: itsDescribe, test: itsTest, it: itsIt } = globals

  afterEach(() => Object.assign(globals, { describe: itsDescribe, test: itsTest, it: itsIt }))

  test('where there are no globals', () => {
    Object.assign(globals, { describe: undefined, test: undefined, it: undefined })
    const call = () => describeSlotStore('Store', () => new MemoryStore())
    expect(call).toThrow(TypeError)
    expect(call).toThrow("import { describe, test } from 'vitest' (or from 'node:test', or '@jest/globals')")
    expect(call).toThrow('describeSlotStore(name, create, { describe, test })')
  })

  test('but takes `it` for `test` where only that is there', () => {
    const names: string[] = []
    Object.assign(globals, {
      describe: (_name: string, body: () => void) => body(),
      test: undefined,
      it: (name: string) => names.push(name),
    })
    describeSlotStore('Store', () => new MemoryStore())
    expect(names).toContain('refuses every acquire against a limit of 0')
  })

  test.each<[string, unknown[], string]>([
    [
      'no name',
      [() => new MemoryStore()],
      'describeSlotStore: name is [Function (anonymous)]; give the name of your store',
    ],
    ['an empty name', ['', () => new MemoryStore()], "describeSlotStore: name is ''; give"],
    [
      'a store in place of create',
      ['Store', new MemoryStore()],
      'describeSlotStore: create is MemoryStore {}; give a function',
    ],
    [
      'half a runner',
      ['Store', () => new MemoryStore(), { describe }],
      'describeSlotStore: runner is [Object]; give { describe, test }',
    ],
  ])('given %s', (_, args, message) => {
    expect(() => describeSlotStore(...(args as Parameters<typeof describeSlotStore>))).toThrow(message)
  })

  test.each<[string, unknown, string]>([
    ['nothing', undefined, 'describeSlotStore: what create returned is undefined; give a slot store'],
    ['something else', {}, 'describeSlotStore: what create returned is {}; give a slot store'],
    [
      'no store',
      { store: {} },
      'describeSlotStore: store is {}; give a slot store, with acquire, release and count',
    ],
    ['no peer', { store: new MemoryStore(), peer: 1 }, 'describeSlotStore: peer is 1; give a slot store'],
    [
      'an elapse that is none',
      { store: new MemoryStore(), elapse: 5 },
      'describeSlotStore: elapse is 5; give a function',
    ],
    [
      'a lease that is too long to wait for',
      Object.assign(new MemoryStore(), { leaseMs: 30_000 }),
      'describeSlotStore: leaseMs of the store is 30000; give at most 4000, or an elapse(ms)',
    ],
  ])('in each test when create returns %s', async (_, created, message) => {
    const { errors } = await judge(() => created as SlotStore)
    expect(new Set(errors.map((error) => error.message.slice(0, message.length)))).toEqual(new Set([message]))
  })
})
