import { createHash } from 'node:crypto'

/** Hash tags. All that one script touches must be under one tag, and a batch of renewals is for one tag. */
const TAGS = 64

/** How many names are remembered. A name is some 150 bytes, and making one costs more than all else in an acquire. */
const REMEMBERED = 16_384

/** Where the slots of one key are in Redis. */
export interface SlotNames {
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
    const hash = createHash('sha256').update(key).digest()
    const tag = (hash[0] as number) % TAGS
    const name = hashKeys ? hash.toString('base64url') : key
    const made = { tag, slots: `${prefix}{${tag}}:${name}`, history: `${prefix}{${tag}}!${name}` }
    if (names.size >= REMEMBERED) names.delete(names.keys().next().value as string)
    names.set(key, made)
    return made
  }
}
