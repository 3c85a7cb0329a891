import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { open } from './clients.js'
import { ALICE } from './demo-client.js'
import { eventually } from './eventually.js'

const ROOT_DIR = join(__dirname, '../..')
const processes = new Set<DemoProcess>()

afterEach(async () => {
  await Promise.all([...processes].map((demo) => demo.end('SIGKILL')))
  processes.clear()
})

/** The demo as `npm run demo` starts it, but from lib and on a free port, in a process of its own. */
export class DemoProcess {
  /** What it has written so far. */
  output = ''
  readonly #child: ChildProcess

  constructor(env: NodeJS.ProcessEnv) {
    const { REDIS_URL: _, SSE_MAX_PER_USER: __, ...inherited } = process.env
    this.#child = spawn(process.execPath, ['--import', 'tsx', 'demo-server/server.ts'], {
      cwd: ROOT_DIR,
      env: { ...inherited, TSX_TSCONFIG_PATH: join(ROOT_DIR, '__tests__/tsconfig.json'), PORT: '0', ...env },
    })
    processes.add(this)
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text) => {
        this.output += text
      })
    }
  }

  /** Starts it, and resolves when it listens. */
  static async start(env: NodeJS.ProcessEnv = {}): Promise<DemoProcess> {
    const demo = new DemoProcess(env)
    await eventually(() => {
      if (demo.#child.exitCode !== null) throw new Error(`The demo ended:\n${demo.output}`)
      return demo.port > 0
    })
    return demo
  }

  get pid(): number {
    return this.#child.pid as number
  }

  get port(): number {
    return Number(/express-sse-guard demo on http:\/\/localhost:(\d+)/.exec(this.output)?.[1] ?? 0)
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  watch(headers = ALICE) {
    return open(`${this.url}/events`, { headers })
  }

  async whoami(headers = ALICE) {
    return (await fetch(`${this.url}/whoami`, { headers })).json() as Promise<{ used: number }>
  }

  /** Resolves with its exit code once it has ended; null if a signal killed it. */
  async end(signal?: NodeJS.Signals): Promise<number | null> {
    const child = this.#child
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'close')
      if (signal) child.kill(signal)
      await ended
    }
    return child.exitCode
  }
}
