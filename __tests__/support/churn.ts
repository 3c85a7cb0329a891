import { type IncomingMessage, request } from 'node:http'
import { killLimiterProcesses, LimiterProcess } from './limiter-process.js'
import { randomFrom } from './random.js'
import { RedisServer } from './redis-process.js'

/** Options of {@link churn}. */
export interface ChurnOptions {
  durationMs: number
  /** Repeats the same choices; not the same timing. */
  seed: number
  processes?: number
  users?: number
  limit?: number
  leaseMs?: number
  /** Told of each fault as it happens. */
  log?: (line: string) => void
}

/** What was seen during {@link churn}. */
export interface ChurnFigures {
  opened: number
  refused: number
  /** Connections that failed, such as to a process that had just been killed. */
  failed: number
  /** Streams that the server ended as evicted. Only those of a suspended process may be. */
  evicted: number
  faults: Record<string, number>
  /** The most streams that one user had open at one process; never above the limit. */
  mostAtOneProcess: number
  /** The most streams that one user had open while nothing had gone wrong for a while; never above the limit. */
  mostInPeace: number
  /** How long it took, after each phase of faults, until Redis had exactly the slots of the streams that were open. */
  settledMs: number[]
  /** What must be empty: rejections and exceptions that nobody caught, sets that were left, broken rules. */
  wrong: string[]
}

const COMMAND_TIMEOUT_MS = 300

interface Visit {
  user: string
  node: number
  response: IncomingMessage
}

/**
 * Lets clients come and go at several server processes while faults happen to these and to their Redis at random, in
 * phases: faults, then peace, in which the true count must come back and the limit must hold over all processes.
 */
export async function churn({
  durationMs,
  seed,
  processes = 3,
  users = 12,
  limit = 4,
  leaseMs = 900,
  log = () => {},
}: ChurnOptions): Promise<ChurnFigures> {
  const random = randomFrom(seed)
  const pick = (below: number) => Math.floor(random() * below)
  const figures: ChurnFigures = {
    opened: 0,
    refused: 0,
    failed: 0,
    evicted: 0,
    faults: {},
    mostAtOneProcess: 0,
    mostInPeace: 0,
    settledMs: [],
    wrong: [],
  }
  const redis = await RedisServer.start()
  const open = new Set<Visit>()
  const pending = new Set<Promise<void>>()
  const suspended = new Set<number>()
  const used: LimiterProcess[] = []
  let isPeace = false

  async function startNode(index: number): Promise<LimiterProcess> {
    const node = await LimiterProcess.start({
      redisUrl: redis.url,
      client: index % 2 === 0 ? 'node-redis' : 'ioredis',
      limit,
      leaseMs,
      commandTimeoutMs: COMMAND_TIMEOUT_MS,
    })
    used.push(node)
    return node
  }

  const nodes: LimiterProcess[] = []

  function look(user: string, node: number): void {
    let all = 0
    let here = 0
    for (const visit of open) {
      if (visit.user !== user) continue
      all += 1
      if (visit.node === node) here += 1
    }
    figures.mostAtOneProcess = Math.max(figures.mostAtOneProcess, here)
    if (isPeace) figures.mostInPeace = Math.max(figures.mostInPeace, all)
  }

  /** Opens a stream. Resolves when it is known what became of that. */
  function visit(node: number, user: string): Promise<void> {
    const visited = new Promise<void>((resolve) => {
      const port = (nodes[node] as LimiterProcess).port
      const req = request({ port, path: '/events', headers: { user }, agent: false })
      req.on('error', () => {
        figures.failed += 1
        resolve()
      })
      req.on('response', (response) => {
        response.on('error', () => {})
        response.resume()
        if (response.statusCode === 200) {
          const entry = { user, node, response }
          figures.opened += 1
          open.add(entry)
          response.on('close', () => open.delete(entry))
          look(user, node)
        } else if (response.statusCode === 429) {
          figures.refused += 1
        } else {
          figures.wrong.push(`answered ${response.statusCode}`)
        }
        resolve()
      })
      req.end()
    })
    pending.add(visited)
    visited.finally(() => pending.delete(visited))
    return visited
  }

  /** A few clients come, a few go. */
  async function step(): Promise<void> {
    for (let i = pick(8); i > 0; i -= 1) void visit(pick(processes), `user${pick(users)}`)
    for (const { response } of open) if (random() < 0.08) response.destroy()
    await sleep(pick(25))
  }

  async function run(ms: number): Promise<void> {
    const until = performance.now() + ms
    while (performance.now() < until) {
      if (pending.size > 300) await Promise.race(pending)
      await step()
    }
  }

  const FAULTS: Record<string, () => Promise<unknown>> = {
    'SCRIPT FLUSH': () => redis.cli('SCRIPT', 'FLUSH'),
    FLUSHALL: () => redis.cli('FLUSHALL'),
    'CLIENT PAUSE': () => redis.cli('CLIENT', 'PAUSE', String(100 + pick(2 * leaseMs)), 'ALL'),
    'DEBUG SLEEP': () => redis.cli('DEBUG', 'SLEEP', String((50 + pick(2 * leaseMs)) / 1000)),
    'CLIENT KILL': () => redis.cli('CLIENT', 'KILL', 'TYPE', 'normal'),
    'restart of Redis': async () => {
      await redis.kill()
      await sleep(pick(2 * leaseMs))
      await redis.start()
    },
    'kill -9 of a process': async () => {
      const index = pick(processes)
      if (suspended.has(index)) return
      await nodes[index]?.kill()
      nodes[index] = await startNode(index)
    },
    'SIGSTOP of a process': async () => {
      const index = pick(processes)
      if (suspended.has(index)) return
      suspended.add(index)
      nodes[index]?.suspend()
      await sleep(pick(3 * leaseMs))
      nodes[index]?.resume()
      suspended.delete(index)
    },
  }

  async function causeFaults(ms: number): Promise<void> {
    const names = Object.keys(FAULTS)
    const until = performance.now() + ms
    while (performance.now() < until) {
      const name = names[pick(names.length)] as string
      log(name)
      figures.faults[name] = (figures.faults[name] ?? 0) + 1
      await FAULTS[name]?.()
      await sleep(pick(leaseMs))
    }
  }

  /** Waits until Redis has the slots of exactly those streams that clients have open. */
  async function settle(): Promise<void> {
    const from = performance.now()
    for (;;) {
      await Promise.all(pending)
      const [truth, counted] = [countOpen(), await countSlots(redis)]
      if (truth === counted && truth === countOpen()) break
      if (performance.now() - from > 20 * leaseMs) {
        figures.wrong.push(`${truth} streams are open, but Redis has ${counted} slots`)
        break
      }
    }
    figures.settledMs.push(Math.round(performance.now() - from))
  }

  function countOpen(): number {
    return open.size
  }

  try {
    nodes.push(...(await Promise.all(Array.from({ length: processes }, (_, index) => startNode(index)))))
    const until = performance.now() + durationMs
    while (performance.now() < until) {
      await Promise.all([run(5 * leaseMs), causeFaults(5 * leaseMs)])
      await settle()
      // Whoever came in over the limit while Redis was away leaves, and then the limit holds over all processes.
      for (const { response } of open) response.destroy()
      await settle()
      isPeace = true
      await run(3 * leaseMs)
      await Promise.all(pending)
      isPeace = false
      log(
        `${figures.opened} opened, ${figures.refused} refused, settled in ${figures.settledMs.slice(-2)} ms`,
      )
    }
    for (const { response } of open) response.destroy()
    await settle()
    await untilEmpty(redis, 4 * leaseMs, figures)
    if (figures.mostAtOneProcess > limit) figures.wrong.push(`${figures.mostAtOneProcess} at one process`)
    if (figures.mostInPeace > limit) figures.wrong.push(`${figures.mostInPeace} in peace`)
  } finally {
    for (const { response } of open) response.destroy()
    for (const node of used) {
      figures.wrong.push(...node.faults)
      figures.evicted += node.endings.filter(({ endedBy }) => endedBy === 'evicted').length
    }
    await killLimiterProcesses()
    await redis.remove()
  }
  return figures
}

async function countSlots(redis: RedisServer): Promise<number> {
  const sum = `local slots = 0
    for _, name in ipairs(redis.call('KEYS', 'sse:{*}:*')) do slots = slots + redis.call('ZCARD', name) end
    return slots`
  return Number(await redis.cli('EVAL', sum, '0'))
}

async function untilEmpty(redis: RedisServer, withinMs: number, figures: ChurnFigures): Promise<void> {
  const until = performance.now() + withinMs
  let left = ''
  do left = await redis.cli('--scan', '--pattern', '*')
  while (left !== '' && performance.now() < until)
  if (left !== '') figures.wrong.push(`left in Redis: ${left}`)
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
