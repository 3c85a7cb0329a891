import { hash } from 'node:crypto'

const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

/** 128 of the 256 bits: nobody finds two users who share a name, and all commands are shorter. */
const HASH_LENGTH = 22

/** How much memory the names may take that are remembered; some 15,000 of ordinary length. Making one costs 0.5 us. */
const MAX_CACHE_BYTES = 4 * 1024 * 1024

/** What one remembered name takes beside its characters. */
const BYTES_PER_NAME = 200

/** Where the slots of one key are in Redis. */
export interface SlotNames {
  /** The hash tag, 0 to 63. All that one script touches must be under one tag: a batch of renewals is for one. */
  readonly tag: number
  /** The sorted set of its slots. */
  readonly slots: string
  /** The sorted set of when they were taken, and of tombstones. */
  readonly history: string
}

/** Makes the function that names where the slots of a key are, and remembers the latest names. */
export function createSlotNames(prefix: string, hashKeys: boolean): (key: string) => SlotNames {
  const names = new Map<string, SlotNames>()
  /** What they take, about: a character may take two bytes. */
  let cacheBytes = 0
  return (key) => {
    const known = names.get(key)
    if (known) return known
    // As UTF-8 all lone surrogates are the same; JSON escapes them.
    const json = JSON.stringify(key)
    const digest = hash('sha256', json, 'base64url')
    const tag = BASE64URL.indexOf(digest.charAt(0))
    const clear = json === `"${key}"` ? key : json
    const name = hashKeys ? digest.slice(0, HASH_LENGTH) : clear
    const made = { tag, slots: `${prefix}{${tag}}:${name}`, history: `${prefix}{${tag}}!${name}` }
    const bytes = BYTES_PER_NAME + 2 * (key.length + made.slots.length + made.history.length)
    // All at once: a Map that loses its oldest entry with each new one gets slower to ask for the oldest.
    if (cacheBytes + bytes > MAX_CACHE_BYTES) {
      names.clear()
      cacheBytes = 0
    }
    // Not one that would push out all others by itself.
    if (bytes <= MAX_CACHE_BYTES / 16) {
      names.set(key, made)
      cacheBytes += bytes
    }
    return made
  }
}
