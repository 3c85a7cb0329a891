import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

// biome-ignore lint/suspicious/noExplicitAny: the arguments and results of a method are its own.
type Methods = Record<string, (...args: any[]) => unknown>

interface Call {
  id: number
  method: string
  args: unknown[]
}

interface Answer {
  id: number
  value?: unknown
  error?: string
}

/** In the child: answers the calls of its parent. */
export function serveParent(methods: Methods): void {
  process.on('message', async ({ id, method, args }: Call) => {
    const answer: Answer = { id }
    try {
      answer.value = await methods[method]?.(...args)
    } catch (error) {
      answer.error = error instanceof Error ? (error.stack ?? error.message) : String(error)
    }
    process.send?.(answer)
  })
  process.once('disconnect', () => process.exit())
}

/** In the parent: a process whose methods can be called. */
export class RemoteProcess<T extends Methods> {
  readonly #child: ChildProcess
  readonly #name: string
  readonly #calls = new Map<number, PromiseWithResolvers>()
  #lastId = 0

  constructor(file: URL, args: string[], nodeOptions: string[] = []) {
    this.#name = args[0] ?? file.pathname
    this.#child = fork(file, args, { execArgv: [...process.execArgv, ...nodeOptions] })
    this.#child.on('message', ({ id, value, error }: Answer) => {
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error === undefined) call?.resolve(value)
      else call?.reject(new Error(`${this.#name}: ${error}`))
    })
    this.#child.once('exit', (code, signal) => {
      const error = new Error(`${this.#name} ended by itself (${code ?? signal})`)
      for (const call of this.#calls.values()) call.reject(error)
    })
  }

  call<K extends keyof T & string>(method: K, ...args: Parameters<T[K]>): Promise<Awaited<ReturnType<T[K]>>> {
    this.#lastId += 1
    const id = this.#lastId
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve: resolve as (value: unknown) => void, reject })
      this.#child.send({ id, method, args } satisfies Call)
    })
  }

  /** The process ends by itself, so that a profile is written, but at the latest after 10 s. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000)
    await exit
    clearTimeout(timer)
  }
}

interface PromiseWithResolvers {
  resolve(value: unknown): void
  reject(error: Error): void
}
