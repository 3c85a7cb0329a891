import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ReaderMethods } from './reader-process.js'
import { RemoteProcess } from './remote-process.js'
import type { ServerMethods } from './server-process.js'
import type { Target } from './stream-viewer.js'
import type { VariantOptions } from './variant.js'

export interface SubjectConfig {
  /** As the report calls it. */
  name: string
  /** The module of the variant, such as `variants/express`. */
  module: string
  options?: VariantOptions
}

export type ReaderProcess = RemoteProcess<ReaderMethods>

export function startReader(): ReaderProcess {
  return new RemoteProcess(new URL('./reader-process.ts', import.meta.url), ['reader'])
}

/** What is measured: one variant in a process of its own, and the reader that reads from it. */
export class Subject {
  readonly name: string
  readonly #server: RemoteProcess<ServerMethods>
  readonly #reader: ReaderProcess
  readonly #target: Target

  private constructor(
    name: string,
    server: RemoteProcess<ServerMethods>,
    reader: ReaderProcess,
    target: Target,
  ) {
    this.name = name
    this.#server = server
    this.#reader = reader
    this.#target = target
  }

  /** @param profileDir where the server is to leave a CPU profile of its life, for Chromium's developer tools. */
  static async start(config: SubjectConfig, reader: ReaderProcess, profileDir?: string): Promise<Subject> {
    const { name, module, options = {} } = config
    const file = new URL('./server-process.ts', import.meta.url)
    const args = [module, JSON.stringify(options)]
    const nodeOptions = profileDir ? ['--cpu-prof', `--cpu-prof-dir=${resolve(profileDir, name)}`] : []
    const server = new RemoteProcess<ServerMethods>(file, args, nodeOptions)
    return new Subject(name, server, reader, await server.call('describe'))
  }

  stop(): Promise<void> {
    return this.#server.stop()
  }

  /** Opens so many streams, and sees to it that the server has as many. */
  async open(count: number): Promise<void> {
    const index = await this.#server.call('nextIndex')
    await this.#reader.call('open', this.name, this.#target, count, index)
    await this.#streamsAre(count)
  }

  /** Leaves all streams, and sees to it that the server has given up each and given back its slot. */
  async close(): Promise<void> {
    await this.#reader.call('close', this.name)
    await this.#streamsAre(0)
  }

  /** Sends and reads: so many events in each tick, so many ticks, to each stream. */
  async sendEvents(ticks: number, perTick: number): Promise<void> {
    const read = this.#reader.call('read', this.name, ticks * perTick)
    await Promise.all([this.#server.call('send', ticks, perTick), read])
  }

  /** Waits for so many comments in each stream. Resolves with how many came in all of them. */
  readComments(perStream: number): Promise<number> {
    return this.#reader.call('readComments', this.name, perStream)
  }

  async openAndLeave(times: number): Promise<void> {
    await this.#reader.call('openAndLeave', this.#target, times)
  }

  /** Reads one answer of so many tokens to its end. */
  async readAnswer(tokens: number): Promise<void> {
    await this.#reader.call('readAnswer', this.#target, tokens)
  }

  /** What the server takes for `work`, in microseconds of CPU. */
  async cpuOf(work: () => Promise<unknown>): Promise<number> {
    const before = await this.#server.call('cpu')
    await work()
    return (await this.#server.call('cpu')) - before
  }

  /** The heap of the server after a collection of garbage, in bytes. */
  heap(): Promise<number> {
    return this.#server.call('heap')
  }

  async #streamsAre(expected: number): Promise<void> {
    const deadline = performance.now() + 10_000
    for (;;) {
      const streams = await this.#server.call('countStreams')
      const slots = await this.#server.call('countSlots')
      if (streams === expected && (slots ?? expected) === expected) return
      if (performance.now() > deadline) {
        throw new Error(`${this.name} has ${streams} streams and ${slots} slots instead of ${expected}`)
      }
      await sleep(10)
    }
  }
}
