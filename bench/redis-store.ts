// What RedisStore costs: `npm run bench:redis`. See README.md in this folder.
import assert from 'node:assert/strict'
import { cpus } from 'node:os'
import { RedisStore } from 'express-sse-guard/redis'
import { RedisServer } from '../__tests__/support/redis-process.js'
import { type Contender, pairedRounds, type Result } from './paired-rounds.js'
import { type Client, connectClients } from './redis-clients.js'

/** Fewer than the store remembers the names of in Redis, and more. */
const USERS = 5_000
const MANY_USERS = 40_000

const LEASES = 10_000

const IN_FLIGHT = 64

interface Lease {
  key: string
  slotId: string
}

/** One line of the table. */
interface Case {
  title: string
  operations: number
  rounds: number
  ours: Contender
  bare: Contender
}

/** Opens and closes the stream of one user; which one, the number says. */
type Open = (index: number) => Promise<void>

async function main(times: number): Promise<void> {
  if (!(times > 0)) throw new Error('How many times as many rounds? A number above 0, such as 3')
  const redis = await RedisServer.start()
  // Also when the benchmark is interrupted.
  process.once('exit', () => void redis.kill())
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
  try {
    await compare(await connectClients(redis.port), times)
  } finally {
    await redis.remove()
  }
}

async function compare(clients: readonly Client[], times: number): Promise<void> {
  const info = String(await clients[0]?.sendBare(['INFO', 'server']))
  const version = /redis_version:(\S+)/.exec(info)?.[1]
  console.log(`Node ${process.version}, Redis ${version}, ${cpus().length} cores`)
  console.log('Ours / bare: median of the ratios of the rounds [quartiles]; then both, in us per operation.')
  for (const client of clients) {
    console.log(`\n${client.name}: acquire and release. Goal 1.2, at most 1.4`)
    for (const it of await openCases(client)) await report(client, it, times)
    await client.sendBare(['FLUSHDB'])
    for (const perUser of [1, 5]) {
      console.log(`\n${client.name}: renewal of ${LEASES} leases, ${perUser} per user. Goal 0.05`)
      for (const it of await renewCases(client, perUser)) await report(client, it, times)
      await client.sendBare(['FLUSHDB'])
    }
    client.close()
  }
}

async function report(client: Client, it: Case, times: number): Promise<void> {
  const rounds = Math.ceil(it.rounds * times)
  const { wall, node, redis } = await pairedRounds({ ...it, rounds, redisCpu: () => redisCpu(client) })
  console.log(
    `${it.title.padEnd(32)} CPU of Node ${format(node)} wall ${format(wall)} CPU of Redis ${format(redis)}`,
  )
}

function format({ ratio, ours, bare }: Result): string {
  const digits = ratio.median < 0.5 ? 3 : 2
  const [median, lower, upper] = [ratio.median, ratio.lower, ratio.upper].map((n) => n.toFixed(digits))
  return `${median} [${lower}-${upper}] ${ours.toFixed(1)}/${bare.toFixed(1)}`.padEnd(31)
}

async function redisCpu(client: Client): Promise<number> {
  const info = String(await client.sendBare(['INFO', 'cpu']))
  const [, system] = /used_cpu_sys:([\d.]+)/.exec(info) ?? []
  const [, user] = /used_cpu_user:([\d.]+)/.exec(info) ?? []
  return (Number(system) + Number(user)) * 1e6
}

async function openCases(client: Client): Promise<Case[]> {
  const few = leasesOf(USERS, 1)
  const many = leasesOf(MANY_USERS, 1)
  const bareFew = await openingBare(client, few)
  const bareMany = await openingBare(client, many)
  const oursFew = await openingThroughStore(client, few)
  const oursMany = await openingThroughStore(client, many)

  let unseen = oursFew
  const forget = async () => {
    unseen = await openingThroughStore(client, few, 1)
  }

  const known = { rounds: 60, ours: oursFew, bare: bareFew }
  return [
    openCase(client, { ...known, title: 'one at a time', inFlight: 1, operations: 500 }),
    openCase(client, { ...known, title: '64 in flight', inFlight: IN_FLIGHT, operations: 2_500 }),
    openCase(client, {
      title: '64 in flight, users new to it',
      inFlight: IN_FLIGHT,
      operations: USERS,
      rounds: 30,
      ours: (index) => unseen(index),
      bare: bareFew,
      prepareOurs: forget,
    }),
    openCase(client, {
      title: '64 in flight, 40,000 users',
      inFlight: IN_FLIGHT,
      operations: 5_000,
      rounds: 30,
      ours: oursMany,
      bare: bareMany,
    }),
  ]
}

interface OpenCase {
  title: string
  inFlight: number
  operations: number
  rounds: number
  ours: Open
  bare: Open
  prepareOurs?: () => Promise<void>
}

/** Each round goes on with the users where the last one stopped. */
function openCase(client: Client, { ours, bare, inFlight, prepareOurs, ...rest }: OpenCase): Case {
  const contender = (open: Open, prepare?: () => Promise<void>): Contender => {
    let from = 0
    return {
      prepare: async () => {
        assert.equal(await client.sendBare(['DBSIZE']), 0, 'All that was taken is given back')
        await prepare?.()
      },
      run: async () => {
        const first = from
        from += rest.operations
        await forEach(rest.operations, inFlight, (index) => open(first + index))
      },
    }
  }
  return { ...rest, ours: contender(ours, prepareOurs), bare: contender(bare) }
}

/** A busy machine is no outage of Redis, so it may take its time. */
function createStore(sendCommand: Client['sendCommand']): RedisStore {
  return new RedisStore({ sendCommand, commandTimeoutMs: 10_000 })
}

/** Through a new store, which has seen so many of the users before it is measured. */
async function openingThroughStore(
  client: Client,
  leases: readonly Lease[],
  seen = leases.length,
): Promise<Open> {
  const store = createStore(client.sendCommand)
  const open: Open = async (index) => {
    const { key, slotId } = leases[index % leases.length] as Lease
    const { granted, held } = await store.acquire(key, slotId, 3)
    if (!granted || held !== 1) throw new Error(`acquire answered ${granted}, ${held}`)
    await store.release(key, slotId)
  }
  await forEach(seen, IN_FLIGHT, open)
  return open
}

/** By hand, with commands that are ready. */
async function openingBare(client: Client, leases: readonly Lease[]): Promise<Open> {
  const commands = await recordCommands(client, leases, async (store, { key, slotId }) => {
    await store.acquire(key, slotId, 3)
    await store.release(key, slotId)
  })
  return async (index) => {
    const [acquire, release] = commands[index % leases.length] as [string[], string[]]
    const [granted, held] = (await client.sendBare(acquire)) as [number, number]
    if (granted !== 1 || held !== 1) throw new Error(`ACQUIRE answered ${granted}, ${held}`)
    const released = await client.sendBare(release)
    if (released !== 1) throw new Error(`RELEASE answered ${released}`)
  }
}

async function renewCases(client: Client, perUser: number): Promise<Case[]> {
  const leases = leasesOf(LEASES / perUser, perUser)
  const store = createStore(client.sendCommand)
  await forEach(LEASES, IN_FLIGHT, async (index) => {
    const { key, slotId } = leases[index] as Lease
    const { granted } = await store.acquire(key, slotId, perUser)
    assert.ok(granted)
  })
  const commands = await recordCommands(client, leases, (recorded, lease) => recorded.renew([lease]))

  const ours = async () => {
    const states = await store.renew(leases)
    const renewed = states.filter((state) => state === 'renewed')
    if (renewed.length !== LEASES) throw new Error(`renew extended ${renewed.length} leases`)
  }
  const bare = async (index: number) => {
    const [renew] = commands[index] as [string[]]
    const state = await client.sendBare(renew)
    if (state !== '1') throw new Error(`RENEW answered ${state}`)
  }
  return [1, IN_FLIGHT, LEASES].map((inFlight) => ({
    title: inFlight === 1 ? 'an EVALSHA each, one at a time' : `an EVALSHA each, ${inFlight} in flight`,
    operations: LEASES,
    rounds: inFlight === 1 ? 10 : 20,
    ours: { run: ours },
    bare: { run: () => forEach(LEASES, inFlight, bare) },
  }))
}

/** Leases with ids as long as those that the limiter makes. Those of one user are not side by side. */
function leasesOf(users: number, perUser: number): Lease[] {
  return Array.from({ length: users * perUser }, (_, index) => ({
    key: `user-${index % users}@example.com`,
    slotId: `q83vASNFZ4mrze8B-${index.toString(36)}`,
  }))
}

/** The commands that the store sends for each lease, so that the bare ones are the same to the byte. */
async function recordCommands(
  client: Client,
  leases: readonly Lease[],
  use: (store: RedisStore, lease: Lease) => Promise<unknown>,
): Promise<string[][][]> {
  let sent: string[][] = []
  const store = createStore((...command) => {
    sent.push(command)
    return client.sendCommand(...command)
  })
  // The first time it sends the scripts along.
  await use(store, leases[0] as Lease)
  const commands: string[][][] = []
  for (const lease of leases) {
    sent = []
    await use(store, lease)
    assert.ok(sent.length > 0 && sent.every(([name]) => name === 'EVALSHA'), 'The scripts are known')
    commands.push(sent)
  }
  return commands
}

/** Calls `work` with 0 to `count` - 1, so many at a time. */
async function forEach(
  count: number,
  inFlight: number,
  work: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < count) {
      const index = next
      next += 1
      await work(index)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
}

await main(Number(process.argv[2] ?? 1))
