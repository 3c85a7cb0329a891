import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'

/** What a limiter process is told, as environment variables. */
export interface LimiterSettings {
  redisUrl: string
  client?: 'node-redis' | 'ioredis'
  limit?: number
  leaseMs?: number
  commandTimeoutMs?: number
  whenStoreDown?: 'local' | 'allow' | 'refuse'
  /** How wrong its clock is. */
  clockOffsetMs?: number
}

/** Both jest and npm run in the folder of the repository. The tests are CommonJS and the soak is not, so neither
 * `__dirname` nor `import.meta` would do. */
const TESTS = resolve('__tests__')

const running = new Set<LimiterProcess>()

/** A server with a limiter on Redis, in a process of its own, that can be suspended and killed. */
export class LimiterProcess {
  /** How its streams ended, as it tells, in order. */
  readonly endings: { user: string; stream: string; endedBy: string }[] = []
  /** Warnings, and errors that nobody caught, which must not be. */
  readonly warnings: string[] = []
  readonly faults: string[] = []

  private constructor(
    private readonly child: ChildProcess,
    readonly port: number,
  ) {
    running.add(this)
    child.on('message', ({ ending, warning, fault }: Record<string, never>) => {
      if (ending) this.endings.push(ending)
      if (warning) this.warnings.push(warning)
      if (fault) this.faults.push(fault)
    })
    child.on('exit', (code, signal) => {
      running.delete(this)
      if (signal !== 'SIGKILL') this.faults.push(`ended with ${code ?? signal}`)
    })
  }

  static async start(settings: LimiterSettings): Promise<LimiterProcess> {
    const child = fork(resolve(TESTS, 'support/limiter-server.ts'), [JSON.stringify(settings)], {
      execArgv: ['--import', 'tsx'],
      env: {
        ...process.env,
        TSX_TSCONFIG_PATH: resolve(TESTS, 'tsconfig.json'),
        NODE_OPTIONS: '',
        NODE_NO_WARNINGS: '1',
      },
    })
    const [message] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => {
        throw new Error(`The limiter process ended with ${code} before it listened`)
      }),
    ])
    return new LimiterProcess(child, (message as { port: number }).port)
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  suspend(): void {
    this.child.kill('SIGSTOP')
  }

  resume(): void {
    this.child.kill('SIGCONT')
  }

  /** Ends it at once, without a chance to give anything back. */
  async kill(): Promise<void> {
    if (!running.has(this)) return
    this.child.kill('SIGKILL')
    await once(this.child, 'exit')
  }
}

/** Kills all that are still running. */
export async function killLimiterProcesses(): Promise<void> {
  await Promise.all([...running].map((limiter) => limiter.kill()))
}
