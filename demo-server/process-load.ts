import { loadavg } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { EventBus } from './event-bus.js'

const EVERY_MS = 1000
const RESOLUTION_MS = 10

/** Publishes `process.load` every second: how busy the machine and this process were in it. */
export class ProcessLoad {
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  #timer: NodeJS.Timeout | undefined
  #cpu = process.cpuUsage()
  #at = performance.now()

  constructor(private readonly bus: EventBus) {}

  start(): void {
    if (this.#timer) return
    this.#cpu = process.cpuUsage()
    this.#at = performance.now()
    this.#delay.enable()
    this.#timer = setInterval(this.#publish, EVERY_MS)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#delay.disable()
  }

  readonly #publish = (): void => {
    const memoryMb = memoryOf()
    if (memoryMb === undefined) return
    const { user, system } = process.cpuUsage(this.#cpu)
    const elapsedMs = performance.now() - this.#at
    this.#cpu = process.cpuUsage()
    this.#at = performance.now()
    // The histogram holds whole intervals between two looks, of which the resolution is not a delay.
    const delayMs = Math.max(0, this.#delay.max / 1e6 - RESOLUTION_MS)
    this.#delay.reset()
    this.bus.publish({
      event: 'process.load',
      data: {
        loadAverage: round(loadavg()[0] ?? 0),
        cpuPercent: round((user + system) / 10 / elapsedMs),
        memoryMb: round(memoryMb),
        eventLoopDelayMs: round(delayMs),
        pid: process.pid,
      },
    })
  }
}

function round(figure: number): number {
  return Math.round(figure * 100) / 100
}

/** It is read from a file, and a process with too many connections can open none. */
function memoryOf(): number | undefined {
  try {
    return process.memoryUsage.rss() / 1e6
  } catch {
    return undefined
  }
}
