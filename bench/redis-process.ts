import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'

export interface RedisProcess {
  port: number
  version: string
  stop: () => Promise<void>
}

/** Starts a redis-server of its own on a free port of the loopback interface, which keeps nothing on disk. */
export async function startRedis(): Promise<RedisProcess> {
  const version = /v=(\S+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))?.[1]
  const port = await freePort()
  const child = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  )
  const kill = () => child.kill('SIGKILL')
  // Also when the benchmark fails, or is interrupted.
  process.once('exit', kill)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

  const ended = once(child, 'exit')
  let log = ''
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    log += chunk
    if (log.includes('Ready to accept connections')) break
  }
  if (child.exitCode !== null) throw new Error(`redis-server did not start:\n${log}`)
  child.stdout.resume()
  const stop = async () => {
    process.off('exit', kill)
    kill()
    await ended
  }
  return { port, version: version ?? 'unknown', stop }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
