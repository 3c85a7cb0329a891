import { hash } from 'node:crypto'

const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

/** 128 of the 256 bits: nobody finds two users who share a name, and all commands are shorter. */
const HASH_LENGTH = 22

/** How many names are remembered: some 300 bytes each, and making one costs 0.5 us. */
const REMEMBERED = 16_384

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
    // All at once: a Map that loses its oldest entry with each new one gets slower to ask for the oldest.
    if (names.size >= REMEMBERED) names.clear()
    names.set(key, made)
    return made
  }
}
