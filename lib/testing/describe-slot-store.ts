import { setTimeout } from 'node:timers/promises'
import { inspect } from 'node:util'
import { badOption } from '../errors.js'
import type { SlotStore } from '../store/slot-store.js'
import { type Chapter, SLOT_STORE_CONTRACT, type Trial } from './slot-store-contract.js'

/** How often a test is tried whose attempts were spoilt by a slow machine. */
const ATTEMPTS = 5

/** Which part of a lease an attempt may take longer than planned and still be judged. No test needs more than it. */
const TOLERANCE = 1 / 3

/** The longest lease that is really waited for. The longest test waits for 3.6, if need be ATTEMPTS times. */
const MAX_REAL_LEASE_MS = 4000

/** In jest and vitest. In node:test, which has no such argument, a test may take as long as it likes. */
const TIMEOUT_MS = 90_000

/** A store with what its tests need beyond it. A store that needs nothing can be given as it is. */
export interface SlotStoreUnderTest {
  /** An empty store. */
  store: SlotStore

  /**
   * Another store on the same slots, as another process would have it: a second instance, on a connection of its own.
   * Default: `store` itself.
   */
  peer?: SlotStore | undefined

  /**
   * Lets `ms` milliseconds pass for leases, such as by setting the clock that was given to the store. Default: really
   * waits, so `leaseMs` must then be at most 4000. Some 500 is a good choice, more for a store that answers slowly.
   */
  elapse?: ((ms: number) => unknown) | undefined

  /** Cleans up after the test. Default: calls `close` of `store` and `peer`, if they have it. */
  close?: (() => unknown) | undefined
}

type CreateStore = () => SlotStore | SlotStoreUnderTest | Promise<SlotStore | SlotStoreUnderTest>

/** The `describe` and `test` of a test framework: those of jest, vitest and node:test fit. */
export interface TestRunner {
  describe(name: string, body: () => void): unknown
  test(name: string, body: () => Promise<void>, timeoutMs: number): unknown
}

/**
 * Declares the tests of a slot store: each sentence of the contract in `SlotStore` is one. Call it in a test file, at
 * the top or in a `describe`.
 *
 * What a store may leave out is tested if it is there: leases if it has `leaseMs`, and `kick`, `watch`, `list`, and
 * `evictOldest`. Tests of what is not there are skipped in vitest and node:test; in jest, where a running test cannot
 * be skipped, they pass.
 *
 * @param name of the store, for the names of the tests.
 * @param create makes what is tested, anew for each test, and must make an empty store: over a shared server, with a
 *   prefix of its own. A test that took so long that slots may have expired is repeated, which calls it again.
 * @param runner the framework. Default: the globals `describe` and `test` (or `it`), which jest has, and vitest with
 *   `globals: true`.
 * @throws TypeError when an argument cannot work, or there is no runner; it says what to type.
 */
export function describeSlotStore(name: string, create: CreateStore, runner?: TestRunner): void {
  if (typeof name !== 'string' || name === '') {
    throw badOption('describeSlotStore: name', name, "the name of your store, such as 'MyStore'")
  }
  if (typeof create !== 'function') {
    throw badOption(
      'describeSlotStore: create',
      create,
      'a function that makes a store, such as () => new MyStore()',
    )
  }
  const { describe, test } = resolveRunner(runner)
  describe(name, () => {
    for (const chapter of SLOT_STORE_CONTRACT) {
      describe(chapter.title, () => {
        for (const [sentence, body] of Object.entries(chapter.sentences)) {
          // The argument is optional to keep the function's `length` 0: with 1, jest waits for a callback.
          const run = async (context: unknown = undefined) => {
            if (!(await judge(create, chapter, body))) skip(context, `${name} is no store ${chapter.title}`)
          }
          test(sentence, run, TIMEOUT_MS)
        }
      })
    }
  })
}

function resolveRunner(runner: TestRunner | undefined): TestRunner {
  if (runner === undefined) {
    const { describe, test, it } = globalThis as { describe?: unknown; test?: unknown; it?: unknown }
    const found = { describe, test: test ?? it }
    if (isRunner(found)) return found
    throw badOption(
      'describeSlotStore: runner',
      runner,
      'it, as there are no globals describe and test here: ' +
        "import { describe, test } from 'vitest' (or from 'node:test', or '@jest/globals'), " +
        'then describeSlotStore(name, create, { describe, test })',
    )
  }
  if (isRunner(runner)) return runner
  throw badOption(
    'describeSlotStore: runner',
    runner,
    '{ describe, test }, two functions of your test framework',
  )
}

function isRunner(value: unknown): value is TestRunner {
  const { describe, test } = (value ?? {}) as Partial<TestRunner>
  return typeof describe === 'function' && typeof test === 'function'
}

/** Marks the running test as skipped, where the framework hands it a way to. */
function skip(context: unknown, why: string): void {
  const { skip } = (context ?? {}) as { skip?: unknown }
  if (typeof skip === 'function') skip.call(context, why)
}

/**
 * Sees whether a store does what a sentence says; rejects if not.
 *
 * Slots expire while a test runs, and a machine that was busy elsewhere may have let more time pass than the test
 * meant to. An attempt that fails after that says nothing about the store, and is repeated on a new one.
 *
 * @returns whether the sentence is about this store.
 */
async function judge(
  create: CreateStore,
  chapter: Chapter,
  body: (trial: Trial) => Promise<void>,
): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    const { store, peer, elapse, close } = await setUp(create)
    const startedAt = performance.now()
    let meantMs = 0
    const trial: Trial = {
      store,
      peer,
      elapse: async (ms) => {
        meantMs += ms
        await elapse(Math.ceil(ms))
      },
    }
    const [outcome] = await Promise.allSettled([hear(trial, chapter, body)])
    const lateMs = performance.now() - startedAt - meantMs
    const [closed] = await Promise.allSettled([close()])
    if (outcome.status === 'fulfilled') {
      if (closed.status === 'rejected') throw closed.reason
      return outcome.value
    }
    const { leaseMs = Infinity } = store
    if (lateMs < leaseMs * TOLERANCE) throw outcome.reason
    if (attempt === ATTEMPTS) throw undecided(outcome.reason, lateMs, leaseMs)
  }
}

async function hear(
  trial: Trial,
  { appliesTo }: Chapter,
  body: (trial: Trial) => Promise<void>,
): Promise<boolean> {
  if (appliesTo && !(await appliesTo(trial))) return false
  await body(trial)
  return true
}

function undecided(failure: unknown, lateMs: number, leaseMs: number): Error {
  const text = failure instanceof Error ? failure.message : inspect(failure)
  return new Error(
    `${text}\n\nSlots may rightly have expired: in each of ${ATTEMPTS} attempts this took longer than it was meant ` +
      `to, at last by ${Math.round(lateMs)} ms, and leaseMs is ${leaseMs}. Test with a longer leaseMs.`,
    { cause: failure },
  )
}

/** What a test works with, the defaults filled in. */
async function setUp(create: CreateStore) {
  const created: unknown = await create()
  const isBare = isStore(created)
  const given = (isBare ? { store: created } : (created ?? {})) as Partial<SlotStoreUnderTest>
  const { store, peer = store, elapse, close } = given
  if (!isStore(store) || !isStore(peer)) {
    const [where, value] = isStore(store)
      ? ['peer', peer]
      : 'store' in given
        ? ['store', store]
        : ['what create returned', created]
    throw badOption(
      `describeSlotStore: ${where}`,
      value,
      'a slot store, with acquire, release and count; create may return one, or { store, peer, elapse, close }',
    )
  }
  for (const [name, value] of Object.entries({ elapse, close })) {
    if (value !== undefined && typeof value !== 'function') {
      throw badOption(`describeSlotStore: ${name}`, value, 'a function')
    }
  }
  if (!elapse && (store.leaseMs ?? 0) > MAX_REAL_LEASE_MS) {
    throw badOption(
      'describeSlotStore: leaseMs of the store',
      store.leaseMs,
      `at most ${MAX_REAL_LEASE_MS}, or an elapse(ms) that makes time pass: else each test would wait that long`,
    )
  }
  return {
    store,
    peer,
    elapse: elapse ?? ((ms: number) => setTimeout(ms)),
    close: async () => {
      if (close) await close()
      else for (const one of new Set([store, peer])) await one.close?.()
    },
  }
}

function isStore(value: unknown): value is SlotStore {
  const { acquire, release, count } = (value ?? {}) as Partial<SlotStore>
  return [acquire, release, count].every((method) => typeof method === 'function')
}
