import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { isTimerMs } from '../checks.js'
import type { AcquireOptions, Lease, LeaseState, SlotStore } from '../store/slot-store.js'

/** One store on trial. */
export interface Trial {
  readonly store: SlotStore
  /** Another store on the same slots, as another process would have it; at least the same one again. */
  readonly peer: SlotStore
  /** Lets time pass for leases, in milliseconds. */
  elapse(ms: number): Promise<void>
}

/** Sentences of the contract that hold for the same kind of store. */
export interface Chapter {
  readonly title: string
  /** Whether the chapter is about this store. Default: it is about each. */
  appliesTo?(trial: Trial): unknown
  /** What a store does, and the body that sees it do so or rejects. */
  readonly sentences: Readonly<Record<string, (trial: Trial) => Promise<void>>>
}

/** How many places there are, and how many want one at the same moment. */
const LIMIT = 5
const CROWD = 40

/** The longest step between two renewals: further apart than the limiter's, but far from the end of the lease. */
const OFTEN_ENOUGH = 0.6
/** How long after its last renewal a slot is surely gone, in leases. */
const TOO_LATE = 1.25
/** How long to wait for what should happen after one lease, in leases, and in how many steps to one lease. */
const PATIENCE = 2
const STEPS = 8

/** Apart by more than the millisecond in which many clocks count, so that a store can say which came first. */
const ONE_AFTER_ANOTHER_MS = 5

/** Pairs that something takes for one (a collation, a pattern, a separator), and names that mean something somewhere. */
const STRANGE_KEYS: readonly string[] = [
  ...[
    'a',
    'A',
    'a ',
    ' a',
    ' ',
    'a b',
    'a:b',
    'a:',
    ':a',
    'a/b',
    'a.b',
    'a,b',
    'a|b',
    'a%3Ab',
    '%',
    '_',
    '-',
  ],
  ...[
    '*',
    'a*',
    '?',
    '[a]',
    '{a}',
    '{',
    '}',
    '{}',
    '}{',
    '{a}b',
    '$',
    '$1',
    '\\',
    '"',
    "'",
    "' OR ''='",
    '--',
  ],
  ...[
    'a\nb',
    'a\r\nb',
    '\n',
    'a\tb',
    'a\0b',
    '\0',
    '0',
    '-0',
    '1',
    '01',
    '1e0',
    'NaN',
    'null',
    'undefined',
    'true',
  ],
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf', 'length', 'then'],
  ...[
    'ß',
    'ss',
    'é',
    'e\u0301',
    'K',
    '\u212a',
    'ä',
    'Ä',
    '用户',
    'مستخدم',
    '🙂',
    '👩‍👩‍👧',
    '\u200b',
    '\ufeff',
  ],
  ...['x'.repeat(10_000), `${'x'.repeat(9_999)}y`],
]

const STRANGE_IDS: readonly string[] = [
  ...[
    'a',
    'A',
    'b',
    '0',
    '-1',
    '1',
    '01',
    '1e0',
    '*',
    '?',
    '[a]',
    '{a}',
    'a:b',
    ':',
    ',',
    '|',
    '%',
    '_',
    '$1',
    '\\',
  ],
  ...['"', "'", '__proto__', 'constructor', 'toString', 'length', 'null', 'undefined', 'inf', 'nan'],
  ...['z'.repeat(64), `${'z'.repeat(63)}y`, printable(0x21, 64), printable(0x3f, 64)],
]

const EVERY_STORE: Chapter = {
  title: 'as every store',
  sentences: {
    'grants slots up to the limit, then refuses, and says each time how many are held': async ({ store }) => {
      assert.deepEqual(await acquire(store, 'user', 'a', 2), granted(1))
      assert.deepEqual(await acquire(store, 'user', 'b', 2), granted(2))
      assert.deepEqual(await acquire(store, 'user', 'c', 2), refused(2))
      assert.equal(await store.count('user'), 2)
    },

    'grants of simultaneous acquires exactly as many as the limit': async ({ store }) => {
      await crowd(() => store)
    },

    'grants exactly as many when they come from two processes': async ({ store, peer }) => {
      await crowd((n) => (n % 2 ? store : peer))
    },

    'never has more than the limit inside while slots come and go': async ({ store, peer }) => {
      let inside = 0
      let most = 0
      const visit = async (slotId: string, through: SlotStore) => {
        if (!(await acquire(through, 'user', slotId, 2)).granted) return
        inside += 1
        most = Math.max(most, inside)
        // The others get a turn while this one is inside.
        await setImmediate()
        inside -= 1
        await through.release('user', slotId)
      }
      await Promise.all(
        idsOf('visitor', 8).map(async (visitor, n) => {
          for (let round = 0; round < 6; round += 1) await visit(`${visitor}-${round}`, n % 2 ? store : peer)
        }),
      )
      assert.ok(most >= 1 && most <= 2, `${most} were inside at once, against a limit of 2`)
      assert.equal(await store.count('user'), 0)
    },

    'shares its slots with other processes': async ({ store, peer }) => {
      await take(store, 'user', ['a', 'b'])
      assert.equal(await peer.count('user'), 2)
      assert.deepEqual(await acquire(peer, 'user', 'a', 2), granted(2))
      assert.deepEqual(await acquire(peer, 'user', 'c', 2), refused(2))
      await peer.release('user', 'a')
      assert.equal(await store.count('user'), 1)
    },

    'grants a slot again that is held already, and does not count it twice': async ({ store }) => {
      await take(store, 'user', ['a'])
      assert.deepEqual(await acquire(store, 'user', 'a', 3), granted(1))
      assert.deepEqual(await acquire(store, 'user', 'b', 3), granted(2))
      await store.release('user', 'a')
      assert.equal(await store.count('user'), 1)
    },

    'grants a slot again that is held already, also when the key is full or over its limit': async ({
      store,
    }) => {
      await take(store, 'user', ['a', 'b'])
      for (const limit of [2, 1, 0]) assert.deepEqual(await acquire(store, 'user', 'a', limit), granted(2))
      assert.equal(await store.count('user'), 2)
    },

    'counts a slot once that is acquired several times at the same moment': async ({ store, peer }) => {
      const answers = await Promise.all(
        idsOf('', CROWD).map((_, n) => acquire(n % 2 ? store : peer, 'user', 'a', 1)),
      )
      assert.deepEqual(answers, Array(CROWD).fill(granted(1)))
      assert.equal(await store.count('user'), 1)
    },

    'keeps nothing of an acquire that it refused': async ({ store }) => {
      await take(store, 'user', ['a'])
      assert.deepEqual(await acquire(store, 'user', 'b', 1), refused(1))
      await store.release('user', 'b')
      assert.equal(await store.count('user'), 1)
      assert.deepEqual(await acquire(store, 'user', 'b', 1), refused(1))
      await store.release('user', 'a')
      assert.equal(await store.count('user'), 0)
      assert.deepEqual(await acquire(store, 'user', 'b', 1), granted(1))
    },

    'frees by a release the place of that slot': async ({ store }) => {
      await take(store, 'user', ['a', 'b'])
      await store.release('user', 'a')
      assert.deepEqual(await acquire(store, 'user', 'c', 2), granted(2))
      assert.deepEqual(await acquire(store, 'user', 'a', 2), refused(2))
    },

    'does nothing when a slot is released a second time': async ({ store }) => {
      await take(store, 'user', ['a', 'b', 'c'])
      for (let time = 0; time < 3; time += 1) await store.release('user', 'a')
      assert.equal(await store.count('user'), 2)
    },

    'frees one place when a slot is released several times at the same moment': async ({ store, peer }) => {
      await take(store, 'user', ['a', 'b', 'c'])
      await Promise.all(idsOf('', CROWD).map(async (_, n) => (n % 2 ? store : peer).release('user', 'a')))
      assert.equal(await store.count('user'), 2)
    },

    'does nothing when a slot is released that it does not know': async ({ store }) => {
      await take(store, 'user', ['a'])
      await store.release('user', 'unknown')
      await store.release('nobody', 'unknown')
      assert.deepEqual([await store.count('user'), await store.count('nobody')], [1, 0])
    },

    'does nothing when a slot is released under the key of another': async ({ store }) => {
      await take(store, 'user', ['a'])
      await take(store, 'other', ['b'])
      await store.release('other', 'a')
      assert.deepEqual([await store.count('user'), await store.count('other')], [1, 1])
    },

    'never frees a newer slot by the release of an older one': async ({ store }) => {
      await take(store, 'user', ['old'])
      await store.release('user', 'old')
      await take(store, 'user', ['new'])
      await store.release('user', 'old')
      assert.equal(await store.count('user'), 1)
      assert.deepEqual(await acquire(store, 'user', 'newer', 1), refused(1))
    },

    'keeps what is held when the limit shrinks, and grants none until fewer are held': async ({ store }) => {
      await take(store, 'user', ['a', 'b', 'c'])
      assert.deepEqual(await acquire(store, 'user', 'd', 2), refused(3))
      await store.release('user', 'a')
      assert.deepEqual(await acquire(store, 'user', 'd', 2), refused(2))
      await store.release('user', 'b')
      assert.deepEqual(await acquire(store, 'user', 'd', 2), granted(2))
    },

    'refuses every acquire against a limit of 0': async ({ store }) => {
      assert.deepEqual(await acquire(store, 'user', 'a', 0), refused(0))
      assert.equal(await store.count('user'), 0)
      await take(store, 'user', ['b'])
      assert.deepEqual(await acquire(store, 'user', 'a', 0), refused(1))
    },

    'refuses none against a limit of Infinity': async ({ store }) => {
      await take(store, 'user', idsOf('slot', 100), Infinity)
    },

    'takes slots over the limit with Infinity, and then none until fewer than the limit are held': async ({
      store,
    }) => {
      await take(store, 'user', ['a', 'b'], 2)
      assert.deepEqual(await acquire(store, 'user', 'c', Infinity), granted(3))
      assert.deepEqual(await acquire(store, 'user', 'd', Infinity), granted(4))
      for (const [slotId, left] of [
        ['a', 3],
        ['c', 2],
      ] as const) {
        assert.deepEqual(await acquire(store, 'user', 'e', 2), refused(left + 1))
        await store.release('user', slotId)
      }
      assert.deepEqual(await acquire(store, 'user', 'e', 2), refused(2))
      await store.release('user', 'd')
      assert.deepEqual(await acquire(store, 'user', 'e', 2), granted(2))
    },

    'counts 0 for a key it has never seen, and never less': async ({ store }) => {
      assert.equal(await store.count('user'), 0)
      await store.release('user', 'a')
      assert.equal(await store.count('user'), 0)
      await take(store, 'user', ['a', 'b'])
      for (const slotId of ['a', 'a', 'b', 'b', 'b']) await store.release('user', slotId)
      assert.equal(await store.count('user'), 0)
      // Below 0 there would be more room now than the limit.
      assert.deepEqual(await acquire(store, 'user', 'c', 1), granted(1))
      assert.deepEqual(await acquire(store, 'user', 'd', 1), refused(1))
    },

    'keeps keys apart, whatever they are called': async ({ store }) => {
      const keys = new Map(STRANGE_KEYS.map((key, n) => [key, `slot-${n}`]))
      const ask = async (key: string) => {
        const count = await store.count(key)
        return [shorten(key), count]
      }
      await forEach(keys, async ([key, slotId]) => {
        assert.deepEqual([shorten(key), await acquire(store, key, slotId, 1)], [shorten(key), granted(1)])
      })
      await forEach(keys, async ([key]) => assert.deepEqual(await ask(key), [shorten(key), 1]))
      await forEach([...keys].filter(isEven), async ([key, slotId]) => store.release(key, slotId))
      await forEach([...keys].filter(isEven), async ([key]) =>
        assert.deepEqual(await ask(key), [shorten(key), 0]),
      )
      await forEach([...keys].filter(isOdd), async ([key]) =>
        assert.deepEqual(await ask(key), [shorten(key), 1]),
      )
    },

    'keeps the slots of a key apart, whatever their ids are': async ({ store }) => {
      await take(store, 'user', STRANGE_IDS)
      await forEach(STRANGE_IDS.filter(isEven), async (slotId) => store.release('user', slotId))
      const kept = STRANGE_IDS.filter(isOdd)
      assert.equal(await store.count('user'), kept.length)
      // A limit of 0 grants nothing but what is held already.
      await forEach(STRANGE_IDS, async (slotId) => {
        const { granted: isHeld } = await acquire(store, 'user', slotId, 0)
        assert.deepEqual([slotId, isHeld], [slotId, kept.includes(slotId)])
      })
    },

    'evicts the oldest when asked to, or refuses as if it were not asked': async ({ store }) => {
      await take(store, 'user', ['a'])
      const {
        granted: isGranted,
        held,
        evicted,
      } = await acquire(store, 'user', 'b', 1, { evictOldest: true })
      assert.equal(held, 1)
      assert.deepEqual(evicted ?? [], isGranted ? ['a'] : [])
      assert.equal(await store.count('user'), 1)
      assert.deepEqual(await acquire(store, 'user', isGranted ? 'b' : 'a', 0), granted(1))
    },
  },
}

const LEASES: Chapter = {
  title: 'with leaseMs',
  appliesTo: ({ store }) => store.leaseMs !== undefined,
  sentences: {
    'says how long a slot lives, and can renew': async ({ store, peer }) => {
      assert.ok(isTimerMs(store.leaseMs), `leaseMs is ${store.leaseMs}, not an integer from 1 to 2147483647`)
      assert.equal(peer.leaseMs, store.leaseMs)
      assert.equal(typeof store.renew, 'function', 'With leaseMs, renew is needed')
    },

    'forgets a slot that is not renewed in time': async ({ store, peer, elapse }) => {
      await take(store, 'user', ['a'])
      await until(elapse, store, 'the count is 0', async () => (await peer.count('user')) === 0)
      assert.equal(await store.count('user'), 0)
    },

    'grants the place of a slot that was not renewed in time': async ({ store, peer, elapse }) => {
      await take(store, 'user', ['a'], 1)
      await until(elapse, store, 'its place is granted', async () => {
        const { granted: isGranted, held } = await acquire(peer, 'user', 'b', 1)
        assert.equal(held, 1)
        return isGranted
      })
      assert.deepEqual(await acquire(store, 'user', 'a', 1), refused(1))
    },

    'keeps a slot as long as it is renewed, and forgets those beside it': async ({ store, peer, elapse }) => {
      await take(store, 'user', ['kept', 'forgotten'])
      for (let step = 0; step < 4; step += 1) {
        await elapse(OFTEN_ENOUGH * leaseMsOf(store))
        assert.deepEqual(await renew(step % 2 ? peer : store, 'user', ['kept']), ['renewed'])
      }
      assert.equal(await store.count('user'), 1)
      assert.deepEqual(await acquire(store, 'user', 'b', 1), refused(1))
      assert.deepEqual(await acquire(store, 'user', 'kept', 1), granted(1))
    },

    'keeps the slots of keys that are renewed in turn, each by calls of its own, for more than three leases':
      async ({ store, elapse }) => {
        // As by two limiters that share a store. What a store does once in a while must be done for each key.
        const keys = ['user', 'other']
        for (const key of keys) await take(store, key, ['a', 'b'])
        for (let step = 0; step < 6; step += 1) {
          await elapse(OFTEN_ENOUGH * leaseMsOf(store))
          for (const key of keys) {
            assert.deepEqual(await renew(store, key, ['a', 'b']), ['renewed', 'renewed'])
          }
        }
        assert.deepEqual([await store.count('user'), await store.count('other')], [2, 2])
      },

    'grants a slot again that is held already, between two renewals': async ({ store, peer, elapse }) => {
      await take(store, 'user', ['a'])
      for (let step = 0; step < 2; step += 1) {
        await elapse(OFTEN_ENOUGH * leaseMsOf(store))
        assert.deepEqual(await acquire(peer, 'user', 'a', 1), granted(1))
        assert.deepEqual(await renew(store, 'user', ['a']), ['renewed'])
      }
      assert.equal(await store.count('user'), 1)
    },

    'says of an expired slot that it is lost, and does not bring it back': async ({ store, elapse }) => {
      await take(store, 'user', ['a'])
      await elapse(TOO_LATE * leaseMsOf(store))
      // Nobody has asked for the key meanwhile, so it is the renewal that must see that it is too late.
      assert.deepEqual(await renew(store, 'user', ['a']), ['lost'])
      assert.equal(await store.count('user'), 0)
      assert.deepEqual(await renew(store, 'user', ['a']), ['lost'])
      assert.deepEqual(await acquire(store, 'user', 'b', 1), granted(1))
    },

    'takes an expired slot anew, if there is room': async ({ store, elapse }) => {
      await take(store, 'user', ['a', 'b'])
      await elapse(TOO_LATE * leaseMsOf(store))
      assert.deepEqual(await acquire(store, 'user', 'a', 1), granted(1))
      assert.deepEqual(await acquire(store, 'user', 'b', 1), refused(1))
      assert.deepEqual(await renew(store, 'user', ['a', 'b']), ['renewed', 'lost'])
    },

    'does nothing when an expired slot is released': async ({ store, elapse }) => {
      await take(store, 'user', ['old'])
      await elapse(TOO_LATE * leaseMsOf(store))
      await take(store, 'user', ['new'])
      await store.release('user', 'old')
      assert.equal(await store.count('user'), 1)
      assert.deepEqual(await renew(store, 'user', ['new', 'old']), ['renewed', 'lost'])
    },

    'says of a released slot that it is lost, and does not bring it back': async ({ store }) => {
      await take(store, 'user', ['a', 'b'])
      await store.release('user', 'a')
      assert.deepEqual(await renew(store, 'user', ['a', 'b']), ['lost', 'renewed'])
      assert.equal(await store.count('user'), 1)
      await store.release('user', 'b')
      assert.deepEqual(await renew(store, 'user', ['a', 'b']), ['lost', 'lost'])
      assert.equal(await store.count('user'), 0)
    },

    'says of a slot that it does not know that it is lost, and does not take it': async ({ store }) => {
      await take(store, 'user', ['a'])
      assert.deepEqual(await acquire(store, 'user', 'refused', 1), refused(1))
      const leases = [lease('nobody', 'unknown'), lease('user', 'refused'), lease('other', 'a')]
      assert.deepEqual(await renewAll(store, leases), ['lost', 'lost', 'lost'])
      const counts = [await store.count('nobody'), await store.count('user'), await store.count('other')]
      assert.deepEqual(counts, [0, 1, 0])
    },

    'renews nothing when asked for nothing': async ({ store }) => {
      assert.deepEqual(await renewAll(store, []), [])
    },

    'answers in the order of the leases, for a thousand of many keys': async ({ store }) => {
      // Every fourth is held, a few were released, the rest was never there; each key has some of all.
      const leases = idsOf('slot', 1000).map((slotId, n) => lease(`user-${n % 37}`, slotId))
      const isHeld = (n: number) => n % 4 === 0
      const open = leases.filter((_, n) => isHeld(n) || n % 50 === 1)
      await Promise.all(open.map(({ key, slotId }) => acquire(store, key, slotId, Infinity)))
      await Promise.all(
        leases.map(async ({ key, slotId }, n) => (n % 50 === 1 ? store.release(key, slotId) : undefined)),
      )
      const states = await renewAll(store, leases)
      assert.deepEqual(
        states,
        leases.map((_, n) => (isHeld(n) ? 'renewed' : 'lost')),
      )
    },
  },
}

const KICK: Chapter = {
  title: 'with kick',
  appliesTo: ({ store }) => store.kick !== undefined,
  sentences: {
    'ends all slots of a key and returns their ids': async ({ store, peer }) => {
      await take(store, 'user', ['a', 'b', 'c'])
      await store.release('user', 'b')
      assert.deepEqual(await kick(peer, 'user'), ['a', 'c'])
      assert.equal(await store.count('user'), 0)
      assert.deepEqual(await kick(store, 'user'), [])
    },

    'says at the next renewal that a slot was kicked, and does not bring it back': async ({
      store,
      peer,
    }) => {
      await take(store, 'user', ['a', 'b'])
      await kick(peer, 'user')
      for (let time = 0; time < 2; time += 1) {
        await assertStates(store, 'user', ['b', 'a'], ['kicked', 'kicked'])
        assert.equal(await store.count('user'), 0)
      }
    },

    'still says so one lease later': async ({ store, elapse }) => {
      await take(store, 'user', ['a'])
      await kick(store, 'user')
      await elapse(store.leaseMs ?? 0)
      await assertStates(store, 'user', ['a'], ['kicked'])
      assert.equal(await store.count('user'), 0)
    },

    'leaves the slots of other keys alone': async ({ store }) => {
      await take(store, 'user', ['a'])
      await take(store, 'other', ['b'])
      assert.deepEqual(await kick(store, 'user'), ['a'])
      assert.equal(await store.count('other'), 1)
      await assertStates(store, 'other', ['b'], ['renewed'])
    },

    'lets in a stream that opens after the kick': async ({ store }) => {
      await take(store, 'user', ['a'], 1)
      await kick(store, 'user')
      assert.deepEqual(await acquire(store, 'user', 'b', 1), granted(1))
      await assertStates(store, 'user', ['b'], ['renewed'])
      await assertStates(store, 'user', ['a'], ['kicked'])
      await store.release('user', 'a')
      assert.equal(await store.count('user'), 1)
    },

    'either ends a stream that opens at the same moment, or leaves it alone': async ({ store, peer }) => {
      const ids = idsOf('slot', CROWD)
      const open = (slotId: string, n: number) => acquire(n % 2 ? store : peer, 'user', slotId, Infinity)
      const [before, kicked, after] = await Promise.all([
        Promise.all(ids.slice(0, CROWD / 2).map(open)),
        kick(store, 'user'),
        Promise.all(ids.slice(CROWD / 2).map(open)),
      ])
      assert.ok([...before, ...after].every((answer) => answer.granted))
      const left = ids.filter((slotId) => !kicked.includes(slotId))
      assert.equal(await store.count('user'), left.length)
      assert.deepEqual(await kick(store, 'user'), left.sort())
    },

    'returns nothing for a key that it does not know': async ({ store }) => {
      assert.deepEqual(await kick(store, 'nobody'), [])
      assert.equal(await store.count('nobody'), 0)
    },

    'does not kick a slot that has expired': async ({ store, elapse }) => {
      if (store.leaseMs === undefined) return
      await take(store, 'user', ['a'])
      await elapse(TOO_LATE * store.leaseMs)
      assert.deepEqual(await kick(store, 'user'), [])
      assert.deepEqual(await renew(store, 'user', ['a']), ['lost'])
    },
  },
}

const EVICTION: Chapter = {
  title: 'with evictOldest',
  appliesTo: async ({ store }) => {
    await take(store, 'probe', ['old'])
    const { granted: can } = await acquire(store, 'probe', 'new', 1, { evictOldest: true })
    await store.release('probe', can ? 'new' : 'old')
    return can
  },
  sentences: {
    'ends the oldest slot of a full key, and says which': async ({ store, elapse }) => {
      // Not in the order of their names.
      await takeInTurn(store, 'user', ['b', 'c', 'a'], elapse)
      assert.deepEqual(await evict(store, 'user', 'e', 3), { ...granted(3), evicted: ['b'] })
      await elapse(ONE_AFTER_ANOTHER_MS)
      assert.deepEqual(await evict(store, 'user', 'd', 3), { ...granted(3), evicted: ['c'] })
      assert.equal(await store.count('user'), 3)
    },

    'takes the slot for the oldest that was acquired first, not the one that was renewed or asked for longest ago':
      async ({ store, elapse }) => {
        await takeInTurn(store, 'user', ['c', 'a', 'b'], elapse)
        for (const slotId of ['b', 'a', 'c']) {
          await assertStates(store, 'user', [slotId], ['renewed'])
          await acquire(store, 'user', slotId, 3)
          await elapse(ONE_AFTER_ANOTHER_MS)
        }
        assert.deepEqual(await evict(store, 'user', 'd', 3), { ...granted(3), evicted: ['c'] })
      },

    'ends none while there is room': async ({ store }) => {
      await take(store, 'user', ['a'])
      assert.deepEqual(await evict(store, 'user', 'b', 2), { ...granted(2), evicted: [] })
      assert.deepEqual(await evict(store, 'user', 'c', Infinity), { ...granted(3), evicted: [] })
    },

    'ends none for a slot that is held already': async ({ store }) => {
      await take(store, 'user', ['a', 'b'])
      for (const limit of [2, 1, 0]) {
        assert.deepEqual(await evict(store, 'user', 'b', limit), { ...granted(2), evicted: [] })
      }
      assert.equal(await store.count('user'), 2)
    },

    'ends as many as a limit that has shrunk asks for': async ({ store, elapse }) => {
      await takeInTurn(store, 'user', ['d', 'b', 'c', 'a'], elapse)
      assert.deepEqual(await evict(store, 'user', 'e', 2), { ...granted(2), evicted: ['b', 'c', 'd'] })
      assert.equal(await store.count('user'), 2)
      assert.deepEqual(await acquire(store, 'user', 'a', 0), granted(2))
    },

    'refuses against a limit of 0, and ends none': async ({ store }) => {
      await take(store, 'user', ['a'])
      assert.deepEqual(await evict(store, 'user', 'b', 0), { ...refused(1), evicted: [] })
      assert.equal(await store.count('user'), 1)
    },

    'leaves the slots of other keys alone': async ({ store }) => {
      await take(store, 'other', ['a'])
      await take(store, 'user', ['b'])
      assert.deepEqual(await evict(store, 'user', 'c', 1), { ...granted(1), evicted: ['b'] })
      assert.equal(await store.count('other'), 1)
    },

    'does not evict a slot that has expired': async ({ store, elapse }) => {
      if (store.leaseMs === undefined) return
      await take(store, 'user', ['a'])
      await elapse(TOO_LATE * store.leaseMs)
      assert.deepEqual(await evict(store, 'user', 'b', 1), { ...granted(1), evicted: [] })
      assert.deepEqual(await renew(store, 'user', ['a', 'b']), ['lost', 'renewed'])
    },

    'lets simultaneous acquires end one another, and never holds more than the limit': async ({
      store,
      peer,
    }) => {
      const answers = await Promise.all(
        idsOf('slot', CROWD).map((slotId, n) => evict(n % 2 ? store : peer, 'user', slotId, LIMIT)),
      )
      assert.ok(answers.every(({ granted: isGranted, held }) => isGranted && held <= LIMIT))
      const evicted = answers.flatMap((answer) => answer.evicted)
      assert.deepEqual([evicted.length, new Set(evicted).size], [CROWD - LIMIT, CROWD - LIMIT])
      assert.equal(await store.count('user'), LIMIT)
    },

    'says at the next renewal that a slot was evicted, and does not bring it back': async ({
      store,
      peer,
    }) => {
      await take(store, 'user', ['a'])
      await evict(peer, 'user', 'b', 1)
      for (let time = 0; time < 2; time += 1) {
        await assertStates(store, 'user', ['a'], ['evicted'])
        assert.equal(await store.count('user'), 1)
      }
      await assertStates(peer, 'user', ['b'], ['renewed'])
      await store.release('user', 'a')
      assert.equal(await store.count('user'), 1)
    },

    'still says so one lease later': async ({ store, elapse }) => {
      await take(store, 'user', ['a'])
      await evict(store, 'user', 'b', 1)
      await elapse(store.leaseMs ?? 0)
      await assertStates(store, 'user', ['a'], ['evicted'])
    },
  },
}

const WATCH: Chapter = {
  title: 'with watch',
  appliesTo: ({ store }) => store.watch !== undefined,
  sentences: {
    'works on when it is watched': async ({ store, peer }) => {
      const ignore = () => {}
      store.watch?.(ignore)
      if (peer !== store) peer.watch?.(ignore)
      await take(store, 'user', ['a', 'b'])
      // What is ended here is what there would be to tell. That it is told is not asked for: notices may get lost.
      await evict(peer, 'user', 'c', 2)
      await peer.kick?.('user')
      await store.release('user', 'a')
      await take(store, 'other', ['d'])
    },

    'tells what its own kick has ended before the kick is answered': async ({ store }) => {
      if (!store.kick) return
      const ended: string[] = []
      store.watch?.((slotIds, state) => ended.push(...slotIds.map((slotId) => `${slotId} ${state}`)))
      await take(store, 'user', ['a', 'b'])
      await take(store, 'other', ['c'])
      await kick(store, 'user')
      // Notices may come twice: those of all processes as well.
      assert.deepEqual([...new Set(ended)].sort(), ['a kicked', 'b kicked'])
    },

    'tells what its own acquire has evicted before that is answered': async ({ store }) => {
      const ended: string[] = []
      store.watch?.((slotIds, state) => ended.push(...slotIds.map((slotId) => `${slotId} ${state}`)))
      await take(store, 'user', ['a'])
      const { evicted } = await evict(store, 'user', 'b', 1)
      assert.deepEqual(
        [...new Set(ended)],
        evicted.map((slotId) => `${slotId} evicted`),
      )
    },
  },
}

const LIST: Chapter = {
  title: 'with list',
  appliesTo: ({ store }) => store.list !== undefined,
  sentences: {
    'lists the slots that a key holds, the oldest first': async ({ store, peer, elapse }) => {
      await takeInTurn(store, 'user', ['b', 'd', 'a', 'c'], elapse)
      await take(store, 'other', ['e'])
      for (const slotId of ['a', 'b']) {
        await assertStates(store, 'user', [slotId], ['renewed'])
        await acquire(store, 'user', slotId, 4)
        await elapse(ONE_AFTER_ANOTHER_MS)
      }
      assert.deepEqual(await listIds(peer, 'user'), ['b', 'd', 'a', 'c'])
      await store.release('user', 'd')
      assert.deepEqual(await listIds(peer, 'user'), ['b', 'a', 'c'])
    },

    'keeps what is said of a slot when it is acquired': async ({ store, peer }) => {
      const meta = { agent: 'curl/8.5 "ü"', path: '/a b?c=d\n' }
      await acquire(store, 'user', 'a', 1, { meta })
      await acquire(store, 'user', 'a', 1, { meta: { agent: 'changes nothing' } })
      const slots = [...((await peer.list?.('user')) ?? [])]
      assert.deepEqual(
        slots.map((slot) => ({ ...slot.meta })),
        [meta],
      )
    },

    'lists nothing for a key that holds none': async ({ store }) => {
      assert.deepEqual(await listIds(store, 'nobody'), [])
      await take(store, 'user', ['a'])
      await store.release('user', 'a')
      assert.deepEqual(await listIds(store, 'user'), [])
    },

    'does not list a slot that has expired': async ({ store, elapse }) => {
      if (store.leaseMs === undefined) return
      await take(store, 'user', ['a'])
      await elapse(TOO_LATE * store.leaseMs)
      assert.deepEqual(await listIds(store, 'user'), [])
    },

    'does not list a slot that was kicked': async ({ store }) => {
      if (!store.kick) return
      await take(store, 'user', ['a'])
      await kick(store, 'user')
      assert.deepEqual(await listIds(store, 'user'), [])
    },
  },
}

/** The contract of `SlotStore`, sentence by sentence. */
export const SLOT_STORE_CONTRACT: readonly Chapter[] = [EVERY_STORE, LEASES, KICK, EVICTION, WATCH, LIST]

const granted = (held: number) => ({ granted: true, held })
const refused = (held: number) => ({ granted: false, held })

/**
 * An acquire whose answer can be compared: made here, of what the contract names, whatever class or realm the store's
 * own answer is of, and with `evicted` only where the answer has some.
 */
async function acquire(
  store: SlotStore,
  key: string,
  slotId: string,
  limit: number,
  options?: AcquireOptions,
) {
  const answer = await (options
    ? store.acquire(key, slotId, limit, options)
    : store.acquire(key, slotId, limit))
  const evicted = [...(answer?.evicted ?? [])].sort()
  return { granted: answer?.granted, held: answer?.held, ...(evicted.length > 0 && { evicted }) }
}

/** An acquire that may evict; `evicted` is sorted, because the contract knows no order of it. */
async function evict(store: SlotStore, key: string, slotId: string, limit: number) {
  return { evicted: [], ...(await acquire(store, key, slotId, limit, { evictOldest: true })) }
}

/** Takes slots one after the other, and sees that each is granted. */
async function take(
  store: SlotStore,
  key: string,
  slotIds: readonly string[],
  limit = slotIds.length,
): Promise<void> {
  for (const [n, slotId] of slotIds.entries()) {
    assert.deepEqual(await acquire(store, key, slotId, limit), granted(n + 1))
  }
}

/** Takes slots with some time between them, so that the store can tell which is the oldest. */
async function takeInTurn(
  store: SlotStore,
  key: string,
  slotIds: readonly string[],
  elapse: Trial['elapse'],
): Promise<void> {
  for (const [n, slotId] of slotIds.entries()) {
    assert.deepEqual(await acquire(store, key, slotId, slotIds.length), granted(n + 1))
    await elapse(ONE_AFTER_ANOTHER_MS)
  }
}

/** A crowd at an empty key: of all that ask at the same moment exactly LIMIT are let in. */
async function crowd(through: (n: number) => SlotStore): Promise<void> {
  const answers = await Promise.all(
    idsOf('slot', CROWD).map((slotId, n) => acquire(through(n), 'user', slotId, LIMIT)),
  )
  const heldBy = (isGranted: boolean) =>
    answers.filter((answer) => answer.granted === isGranted).map(({ held }) => held)
  // As if they had come one after the other.
  assert.deepEqual(heldBy(true).sort(), [1, 2, 3, 4, 5])
  assert.deepEqual(heldBy(false), Array(CROWD - LIMIT).fill(LIMIT))
  assert.equal(await through(0).count('user'), LIMIT)
}

async function renewAll(store: SlotStore, leases: readonly Lease[]): Promise<LeaseState[]> {
  assert.ok(store.renew, 'The store has no renew')
  return [...(await store.renew(leases))]
}

function renew(store: SlotStore, key: string, slotIds: readonly string[]): Promise<LeaseState[]> {
  return renewAll(
    store,
    slotIds.map((slotId) => lease(key, slotId)),
  )
}

/** Sees what a renewal says. A store whose slots live until they are released may have no renewal to ask. */
async function assertStates(
  store: SlotStore,
  key: string,
  slotIds: readonly string[],
  states: readonly LeaseState[],
): Promise<void> {
  if (store.renew) assert.deepEqual(await renew(store, key, slotIds), states)
}

async function kick(store: SlotStore, key: string): Promise<string[]> {
  assert.ok(store.kick, 'The store has no kick')
  return [...(await store.kick(key))].sort()
}

async function listIds(store: SlotStore, key: string): Promise<string[]> {
  assert.ok(store.list, 'The store has no list')
  return [...(await store.list(key))].map(({ slotId }) => slotId)
}

function leaseMsOf(store: SlotStore): number {
  assert.ok(store.leaseMs, 'The store has no leaseMs')
  return store.leaseMs
}

function lease(key: string, slotId: string): Lease {
  return { key, slotId }
}

function idsOf(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${name}-${n}`)
}

/** Asks again after every part of a lease, until the condition holds. */
async function until(
  elapse: Trial['elapse'],
  store: SlotStore,
  what: string,
  condition: () => Promise<boolean>,
): Promise<void> {
  const leaseMs = leaseMsOf(store)
  for (let step = 0; step <= PATIENCE * STEPS; step += 1) {
    if (await condition()) return
    await elapse(leaseMs / STEPS)
  }
  assert.fail(`Not within ${PATIENCE} leases: ${what}`)
}

/** All at the same time: the values have nothing to do with each other, and leases run meanwhile. */
async function forEach<Value>(
  values: Iterable<Value>,
  visit: (value: Value) => void | Promise<void>,
): Promise<void> {
  await Promise.all(Array.from(values, async (value) => visit(value)))
}

const isEven = (_: unknown, index: number) => index % 2 === 0
const isOdd = (_: unknown, index: number) => index % 2 === 1

function shorten(key: string): string {
  return key.length > 100 ? `${key.slice(0, 3)}...${key.slice(-3)} (${key.length} characters)` : key
}

/** As many printable ASCII characters, from one on. */
function printable(first: number, count: number): string {
  return String.fromCharCode(...Array.from({ length: count }, (_, n) => first + n))
}
