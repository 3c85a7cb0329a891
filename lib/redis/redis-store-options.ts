import { isTimerMs } from '../checks.js'
import { badOption } from '../errors.js'
import { checkOptionNames } from '../option-names.js'

/** Sends one command, as it is, through a client to one Redis, or through one that routes by itself (ioredis). */
export type SendCommand = (...command: string[]) => PromiseLike<unknown>

/** Sends one command through the client of a cluster, which must be told where to (node-redis). */
export type SendCommandCluster = (details: {
  /** A key of the command, which says to which node it goes. */
  key: string
  /** Whether a replica may answer it. */
  isReadOnly: boolean
  command: string[]
}) => PromiseLike<unknown>

/** Options of {@link RedisStore}. Exactly one of `sendCommand` and `sendCommandCluster` is needed. */
export interface RedisStoreOptions {
  /**
   * Sends a command to Redis and resolves with its reply. With ioredis (also its Cluster)
   * `(command, ...args) => client.call(command, ...args)`, with node-redis `(...command) => client.sendCommand(command)`.
   */
  sendCommand?: SendCommand | undefined

  /**
   * The same for node-redis's cluster:
   * `({ key, isReadOnly, command }) => cluster.sendCommand(key, isReadOnly, command)`.
   */
  sendCommandCluster?: SendCommandCluster | undefined

  /**
   * Subscribes to a channel, on a connection of its own, and calls `onMessage` with the text of each message. With it a
   * stream that was evicted or kicked by another process ends at once; without it, with the next renewal. Give it in
   * all processes or in none. What it returns is not looked at, but a promise that rejects is warned of. Default: none.
   */
  subscribe?: ((channel: string, onMessage: (message: string) => void) => unknown) | undefined

  /**
   * How the names of all keys in Redis begin. Processes with the same prefix share the slots. At most 128 characters,
   * none of them `{` or `}`. Default: `'sse:'`.
   */
  prefix?: string | undefined

  /**
   * After how many milliseconds without renewal a slot is free again: how long a crashed process keeps its users out.
   * It is renewed three times in that time. An integer from 1 to 2147483647, the same in all processes. Default: 30000.
   */
  leaseMs?: number | undefined

  /**
   * After how many milliseconds without an answer Redis counts as away: the longest that an opening stream waits for
   * it. Time in which this process itself could not run does not count. An integer from 1 to 2147483647. Default: 500.
   */
  commandTimeoutMs?: number | undefined

  /**
   * Whether user ids appear in Redis only as a hash (128 bits of SHA-256). With false they stand in clear in the names
   * of keys, which helps when looking into Redis by hand. The same in all processes. Default: true.
   */
  hashKeys?: boolean | undefined
}

/** The options as the store reads them. */
export interface RedisStoreConfig {
  send: SendCommandCluster
  subscribe: RedisStoreOptions['subscribe']
  prefix: string
  leaseMs: number
  commandTimeoutMs: number
  hashKeys: boolean
}

const OPTIONS = {
  sendCommand: true,
  sendCommandCluster: true,
  subscribe: true,
  prefix: true,
  leaseMs: true,
  commandTimeoutMs: true,
  hashKeys: true,
} as const

/** Checks the options when the store is made. */
export function resolveRedisStoreOptions(options: RedisStoreOptions): RedisStoreConfig {
  if (typeof options !== 'object' || options === null) {
    throw badOption('RedisStore: options', options, 'an object with at least sendCommand')
  }
  checkOptionNames<RedisStoreOptions>('RedisStore', options, OPTIONS)
  const { sendCommand, sendCommandCluster, subscribe } = options
  const { prefix = 'sse:', leaseMs = 30_000, commandTimeoutMs = 500, hashKeys = true } = options
  if (sendCommand !== undefined && sendCommandCluster !== undefined) {
    throw badOption(
      'RedisStore: sendCommandCluster',
      sendCommandCluster,
      'either it or sendCommand, not both',
    )
  }
  for (const [name, value] of Object.entries({ sendCommand, sendCommandCluster, subscribe })) {
    if (value !== undefined && typeof value !== 'function') {
      throw badOption(`RedisStore: ${name}`, value, 'a function, not the client itself')
    }
  }
  if (!sendCommand && !sendCommandCluster) {
    throw badOption(
      'RedisStore: sendCommand',
      sendCommand,
      'a function that sends a command, such as (...command) => client.sendCommand(command)',
    )
  }
  if (typeof prefix !== 'string' || prefix.length > 128 || /[{}]/.test(prefix)) {
    throw badOption(
      'RedisStore: prefix',
      prefix,
      "a string of at most 128 characters without { and }, such as 'sse:'",
    )
  }
  for (const [name, value] of Object.entries({ leaseMs, commandTimeoutMs })) {
    if (!isTimerMs(value)) {
      throw badOption(`RedisStore: ${name}`, value, 'an integer from 1 to 2147483647, in milliseconds')
    }
  }
  if (typeof hashKeys !== 'boolean') throw badOption('RedisStore: hashKeys', hashKeys, 'true or false')
  const send = sendCommandCluster ?? (({ command }) => (sendCommand as SendCommand)(...command))
  return { send, subscribe, prefix, leaseMs, commandTimeoutMs, hashKeys }
}
