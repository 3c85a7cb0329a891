import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Those that were started and not removed yet. */
export const servers = new Set<RedisServer>()

/** A real redis-server on a free port of the loopback interface, without persistence. */
export class RedisServer {
  readonly #folder = mkdtempSync(join(tmpdir(), 'redis-'))
  #child: ChildProcess | undefined

  constructor(
    readonly port: number,
    private readonly settings: readonly string[] = [],
  ) {}

  static async start(settings: readonly string[] = []): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), settings)
    servers.add(server)
    await server.start()
    return server
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  get pid(): number {
    return this.#child?.pid as number
  }

  get isRunning(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null
  }

  /** Starts it (again) if it does not run, with an empty dataset, and resolves once it answers. */
  async start(): Promise<void> {
    if (this.isRunning) return
    const child = spawn(
      'redis-server',
      // biome-ignore format: a setting a line
      [
        '--port', String(this.port),
        '--bind', '127.0.0.1',
        '--save', '',
        '--appendonly', 'no',
        '--dir', this.#folder,
        '--enable-debug-command', 'local',
        ...this.settings,
      ],
      { stdio: 'ignore' },
    )
    this.#child = child
    for (;;) {
      if (child.exitCode !== null)
        throw new Error(`redis-server on port ${this.port} ended with ${child.exitCode}`)
      if ((await this.cli('PING').catch(() => '')) === 'PONG') return
    }
  }

  /** Stops the process as it is, so that it answers nobody, or lets it go on. */
  suspend(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child || !this.isRunning) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }

  /** Runs a command over a connection of its own. */
  async cli(...command: string[]): Promise<string> {
    const { stdout } = await run('redis-cli', ['-p', String(this.port), ...command])
    return stdout.trim()
  }

  async remove(): Promise<void> {
    servers.delete(this)
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Starts a cluster of masters without replicas. */
export async function startCluster(size = 3): Promise<RedisServer[]> {
  const nodes = await Promise.all(
    Array.from({ length: size }, () => RedisServer.start(['--cluster-enabled', 'yes'])),
  )
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`)
  await run('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-replicas', '0', '--cluster-yes'])
  for (const node of nodes) {
    while (!(await node.cli('CLUSTER', 'INFO')).includes('cluster_state:ok')) {}
  }
  return nodes
}

/** A free port below 45536: a cluster node also listens on the port 10000 above its own. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 35_000)
    if ((await isFree(port)) && (await isFree(port + 10_000))) return port
  }
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer()
  return new Promise((resolve) => {
    probe.once('error', () => resolve(false))
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
  })
}
