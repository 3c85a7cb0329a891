import { inspect } from 'node:util'
import { isPromise } from '../checks.js'
import { messageOf } from '../errors.js'
import type { AcquireOptions, Grant, Lease, LeaseState, SlotStore } from '../store/slot-store.js'
import { warn } from '../warnings.js'
import { CommandTimeouts } from './command-timeouts.js'
import { ACQUIRE, COUNT, KICK, RELEASE, RENEW, type RedisScript } from './redis-scripts.js'
import {
  type RedisStoreOptions,
  resolveRedisStoreOptions,
  type SendCommandCluster,
} from './redis-store-options.js'
import { createSlotNames, type SlotNames } from './slot-names.js'

/** Leases in one batch: enough to share the cost of a round trip, few enough not to hold Redis up (1 to 3 ms). */
const BATCH = 256

/** How many of the renewals also remove what has expired: about one in a lease, as that is a third of their cost. */
const TIDY_SHARE = 1 / 3

type OnEnded = (slotIds: readonly string[], state: 'evicted' | 'kicked') => void

const STATE_OF: Readonly<Record<string, LeaseState>> = {
  '0': 'lost',
  '1': 'renewed',
  e: 'evicted',
  k: 'kicked',
}

/**
 * Slots in Redis 6.2 or later (or Valkey), shared by all processes that use the same `prefix`: the limit holds over all
 * of them, exactly.
 *
 * A slot is a member of its key's sorted set, with its expiry by the clock of Redis as score. Each step is a Lua
 * script; one that Redis may not know (at first, after a restart or SCRIPT FLUSH) is sent along. Redis may be a single one
 * or a cluster: all that a script touches is under one hash tag.
 *
 * It rejects with what the client rejects with, or when Redis has not answered within `commandTimeoutMs`.
 */
export class RedisStore implements SlotStore {
  readonly leaseMs: number
  readonly #send: SendCommandCluster
  readonly #subscribe: RedisStoreOptions['subscribe']
  readonly #channel: string
  readonly #lease: string
  readonly #namesOf: (key: string) => SlotNames
  readonly #timeouts: CommandTimeouts
  /** The limiters of this process, each called with the slots that were ended. */
  readonly #watchers: OnEnded[] = []
  /** Scripts that were sent in full: a first release, as the process shuts down, has no second try with some clients. */
  readonly #known = new Set<RedisScript>()

  /** @throws TypeError when an option cannot work; it quotes the value and says what to give instead. */
  constructor(options: RedisStoreOptions) {
    const { send, subscribe, prefix, leaseMs, commandTimeoutMs, hashKeys } = resolveRedisStoreOptions(options)
    this.leaseMs = leaseMs
    this.#send = send
    this.#subscribe = subscribe
    this.#channel = `${prefix}ended`
    this.#lease = String(leaseMs)
    this.#namesOf = createSlotNames(prefix, hashKeys)
    this.#timeouts = new CommandTimeouts(commandTimeoutMs)
  }

  async acquire(key: string, slotId: string, limit: number, options?: AcquireOptions): Promise<Grant> {
    const { slots, history } = this.#namesOf(key)
    const evict = options?.evictOldest ? '1' : ''
    // Lua reads 'inf', but not 'Infinity'.
    const most = limit === Infinity ? 'inf' : String(limit)
    const args = [slotId, most, this.#lease, evict, this.#notices]
    const [granted, held, ...rest] = listOf(await this.#run(ACQUIRE, [slots, history], args))
    const evicted = rest.map(String)
    this.#notify(evicted, 'evicted')
    return {
      granted: parseInteger(granted) === 1,
      held: parseInteger(held),
      ...(evicted.length > 0 && { evicted }),
    }
  }

  async release(key: string, slotId: string): Promise<void> {
    const { slots, history } = this.#namesOf(key)
    await this.#run(RELEASE, [slots, history], [slotId])
  }

  async count(key: string): Promise<number> {
    return parseInteger(await this.#run(COUNT, [this.#namesOf(key).slots], []))
  }

  async renew(leases: readonly Lease[]): Promise<readonly LeaseState[]> {
    // By chance, as several limiters may renew in turn, and each of their keys must have its share.
    const tidy = Math.random() < TIDY_SHARE ? '1' : ''
    const states = new Array<LeaseState>(leases.length)
    await Promise.all(
      this.#batch(leases).map(async ({ users }) => {
        const keys: string[] = []
        const indexes: number[] = []
        let slotIds = ''
        for (const user of users.values()) {
          keys.push(user.names.slots, user.names.history)
          slotIds += `${user.slotIds}\n`
          indexes.push(...user.indexes)
        }
        const reply = String(await this.#run(RENEW, keys, [this.#lease, tidy, slotIds]))
        for (const [at, index] of indexes.entries()) states[index] = stateOf(reply[at])
      }),
    )
    return states
  }

  async kick(key: string): Promise<readonly string[]> {
    const { slots, history } = this.#namesOf(key)
    const reply = await this.#run(KICK, [slots, history], [this.#lease, this.#notices])
    const kicked = listOf(reply).map(String)
    this.#notify(kicked, 'kicked')
    return kicked
  }

  watch(onEnded: OnEnded): void {
    this.#watchers.push(onEnded)
    const onMessage = (message: unknown) => {
      const [mark, ...slotIds] = String(message).split('\n')
      if (mark === 'e' || mark === 'k') onEnded(slotIds, mark === 'e' ? 'evicted' : 'kicked')
    }
    try {
      const done = this.#subscribe?.(this.#channel, onMessage)
      if (isPromise(done)) done.then(undefined, warnOfNoNotices)
    } catch (error) {
      warnOfNoNotices(error)
    }
  }

  /** Tells the limiters of this process at once. The notice that goes to all processes comes later, and may get lost. */
  #notify(slotIds: readonly string[], state: 'evicted' | 'kicked'): void {
    if (slotIds.length > 0) for (const onEnded of this.#watchers) onEnded(slotIds, state)
  }

  /** The channel of notices, if there are any. */
  get #notices(): string {
    return this.#subscribe ? this.#channel : ''
  }

  /** Puts leases into batches that each are under one hash tag, and those of one user side by side. */
  #batch(leases: readonly Lease[]): Batch[] {
    const batches: Batch[] = []
    const latest = new Map<number, Batch>()
    for (const [index, { key, slotId }] of leases.entries()) {
      const names = this.#namesOf(key)
      let batch = latest.get(names.tag)
      if (!batch || batch.size >= BATCH) {
        batch = { users: new Map(), size: 0 }
        batches.push(batch)
        latest.set(names.tag, batch)
      }
      let user = batch.users.get(key)
      if (!user) {
        user = { names, slotIds: `${slotId}\n`, indexes: [index] }
        batch.users.set(key, user)
      } else {
        user.slotIds += `${slotId}\n`
        user.indexes.push(index)
      }
      batch.size += 1
    }
    return batches
  }

  #run(script: RedisScript, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const { sha1, isReadOnly } = script
    const key = keys[0] as string
    const rest = [String(keys.length), ...keys, ...args]
    if (!this.#known.has(script)) return this.#timeouts.limit(this.#sendInFull(script, key, rest))
    const reply = Promise.resolve(this.#send({ key, isReadOnly, command: ['EVALSHA', sha1, ...rest] }))
    return this.#timeouts.limit(
      reply.catch((error) => {
        // In a cluster SCRIPT LOAD would reach one node of many, so the script itself goes along.
        if (!isUnknownScript(error)) throw error
        return this.#sendInFull(script, key, rest)
      }),
    )
  }

  async #sendInFull(script: RedisScript, key: string, rest: readonly string[]): Promise<unknown> {
    const { lua, isReadOnly } = script
    const reply = await this.#send({ key, isReadOnly, command: ['EVAL', lua, ...rest] })
    this.#known.add(script)
    return reply
  }
}

/** Leases that are renewed by one command. */
interface Batch {
  /** By key. `slotIds` has one in each line, and `indexes` their places in the list of all leases. */
  readonly users: Map<string, { names: SlotNames; slotIds: string; indexes: number[] }>
  size: number
}

function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

function listOf(reply: unknown): readonly unknown[] {
  if (Array.isArray(reply)) return reply
  throw unexpectedReply(reply)
}

function parseInteger(reply: unknown): number {
  const number = Number(reply)
  if (reply === null || reply === '' || Number.isNaN(number)) throw unexpectedReply(reply)
  return number
}

function stateOf(character: string | undefined): LeaseState {
  const state = STATE_OF[character ?? '']
  if (state) return state
  throw unexpectedReply(character)
}

function unexpectedReply(reply: unknown): TypeError {
  return new TypeError(
    `sendCommand resolved with ${inspect(reply, { depth: 0 })}; let it return what the client's own call returns`,
  )
}

function warnOfNoNotices(error: unknown): void {
  warn(
    `RedisStore could not subscribe: ${messageOf(error)}. Streams end with the next renewal instead of at once.`,
  )
}
