import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, Agent as HttpAgent, request as requestHttp } from 'node:http'
import { createServer as createHttpsServer, Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import express from 'express'
import { defineEvents, openSession, streamEvents } from 'express-sse-guard'
import { generate } from 'selfsigned'

/** Short streams that the server ends: what `Connection: close` costs against `keep-alive`, in CPU of the server. */
interface Scenario {
  name: string
  method: 'GET' | 'POST'
  isTls: boolean
  /** How many TLS sessions the client remembers: with 0 each handshake is a full one. */
  maxCachedSessions?: number
  isBehindNginx?: boolean
}

const SCENARIOS: Scenario[] = [
  { name: 'GET, HTTP', method: 'GET', isTls: false },
  { name: 'POST, HTTP', method: 'POST', isTls: false },
  {
    name: 'GET, HTTP behind nginx with upstream keep-alive',
    method: 'GET',
    isTls: false,
    isBehindNginx: true,
  },
  { name: 'GET, HTTPS, session resumed', method: 'GET', isTls: true },
  { name: 'GET, HTTPS, full handshake', method: 'GET', isTls: true, maxCachedSessions: 0 },
  { name: 'POST, HTTPS, session resumed', method: 'POST', isTls: true },
  { name: 'POST, HTTPS, full handshake', method: 'POST', isTls: true, maxCachedSessions: 0 },
]

const ROUNDS = 9
const STREAMS = 500
const IN_FLIGHT = 8
const CONNECTIONS = ['close', 'keep-alive'] as const
type Connection = (typeof CONNECTIONS)[number]

const [, file, role, option] = process.argv
if (role === 'server') await runServer(option === 'tls')
else await runBench(Number(role ?? 1))

/** In a process of its own. Tells its port, and its CPU time in microseconds whenever it is asked. */
async function runServer(isTls: boolean): Promise<void> {
  const events = defineEvents({ token: ['text'] })
  const app = express()
  app.all('/:connection', async (req, res) => {
    const headers = { Connection: req.params.connection }
    const session = await openSession(req, res, { events, headers })
    await streamEvents(session, [{ event: 'token', data: { text: 'Hello' } }])
  })
  const pems = isTls ? await generate([{ name: 'commonName', value: 'localhost' }]) : undefined
  const server = pems ? createHttpsServer({ key: pems.private, cert: pems.cert }, app) : createServer(app)
  server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as { port: number }).port }))
  process.on('message', () => {
    const { user, system } = process.cpuUsage()
    process.send?.({ cpu: user + system })
  })
}

async function runBench(scale: number): Promise<void> {
  for (const scenario of SCENARIOS) {
    const rounds: Record<Connection, Usage>[] = []
    for (let round = 0; round < Math.ceil(ROUNDS * scale); round += 1) rounds.push(await runRound(scenario))
    const medianOf = (of: (round: Record<Connection, Usage>) => number) =>
      quartiles(rounds.map(of))[1].toFixed(2)
    const ratios = quartiles(rounds.map((round) => round.close.node / round['keep-alive'].node))
    const [lower, median, upper] = ratios.map((ratio) => ratio.toFixed(2))
    const nginx = scenario.isBehindNginx
      ? `; CPU of nginx ${medianOf((round) => round.close.nginx / round['keep-alive'].nginx)}`
      : ''
    console.log(
      `${scenario.name}: close / keep-alive ${median} (${lower} to ${upper})${nginx}; ` +
        `${medianOf((round) => round.close.node)} and ${medianOf((round) => round['keep-alive'].node)} us a stream`,
    )
  }
}

/** CPU in microseconds a stream. */
interface Usage {
  node: number
  nginx: number
}

/** Both against a fresh server, in the order A B B A, of which a coin decides who is A: what comes later finds code compiled. */
async function runRound(scenario: Scenario): Promise<Record<Connection, Usage>> {
  const server = fork(file as string, ['server', scenario.isTls ? 'tls' : ''])
  const { port } = (await once(server, 'message'))[0] as { port: number }
  const nginx = scenario.isBehindNginx ? await startNginx(port) : undefined
  const usages = { close: { node: 0, nginx: 0 }, 'keep-alive': { node: 0, nginx: 0 } }
  const [a, b] = Math.random() < 0.5 ? CONNECTIONS : CONNECTIONS.toReversed()
  const run = (connection: Connection) => openStreams(scenario, nginx?.port ?? port, connection, STREAMS)
  const order = [a, b, b, a] as Connection[]
  for (const connection of order) await run(connection)
  for (const connection of order) {
    const before = { node: await cpuOf(server), nginx: nginx?.cpu() ?? 0 }
    await run(connection)
    usages[connection].node += ((await cpuOf(server)) - before.node) / STREAMS / 2
    usages[connection].nginx += ((nginx?.cpu() ?? 0) - before.nginx) / STREAMS / 2
  }
  nginx?.stop()
  server.kill()
  await once(server, 'exit')
  return usages
}

async function cpuOf(server: ChildProcess): Promise<number> {
  server.send('cpu')
  return ((await once(server, 'message'))[0] as { cpu: number }).cpu
}

async function openStreams(
  { isTls, method, maxCachedSessions = 100 }: Scenario,
  port: number,
  connection: Connection,
  count: number,
): Promise<void> {
  const agent = isTls
    ? new HttpsAgent({ keepAlive: true, maxSockets: IN_FLIGHT, maxCachedSessions })
    : new HttpAgent({ keepAlive: true, maxSockets: IN_FLIGHT })
  const request = isTls ? requestHttps : requestHttp
  const options = {
    host: '127.0.0.1',
    port,
    path: `/${connection}`,
    method,
    agent,
    rejectUnauthorized: false,
  }
  const openOne = async (): Promise<void> => {
    const req = request(options).end()
    const [res] = await once(req, 'response')
    let text = ''
    for await (const chunk of res) text += chunk
    if (!text.endsWith('data: {"text":"Hello"}\n\n')) throw new Error(`A wrong answer: ${text}`)
  }
  let left = count
  const worker = async (): Promise<void> => {
    while (left-- > 0) await openOne()
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker))
  agent.destroy()
}

/** One process, in a folder of its own. */
async function startNginx(upstream: number): Promise<{ port: number; cpu(): number; stop(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-nginx-'))
  const port = upstream > 40_000 ? upstream - 1000 : upstream + 1000
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid nginx.pid; error_log error.log;
    events { worker_connections 256; }
    http {
      access_log off; client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
      upstream node { server 127.0.0.1:${upstream}; keepalive 32; keepalive_requests 100000; }
      keepalive_requests 100000;
      server {
        listen 127.0.0.1:${port};
        location / { proxy_pass http://node; proxy_http_version 1.1; proxy_set_header Connection ''; }
      }
    }`,
  )
  const child = spawn('nginx', ['-p', folder, '-c', 'nginx.conf', '-e', 'error.log'], { stdio: 'inherit' })
  while (!(await accepts(port))) await setTimeout(20)
  return {
    port,
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    cpu: () => {
      const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ')
      return (Number(fields[13]) + Number(fields[14])) * 10_000
    },
    stop: () => {
      child.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

function quartiles(numbers: number[]): [number, number, number] {
  const sorted = numbers.toSorted((a, b) => a - b)
  const at = (part: number) => sorted[Math.round(part * (sorted.length - 1))] as number
  return [at(0.25), at(0.5), at(0.75)]
}
