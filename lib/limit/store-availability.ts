import type { SlotStore } from '../store/slot-store.js'
import { FailingKeys } from './failing-keys.js'
import { StoreHealth } from './store-health.js'

/** How many other keys must fail as well before the whole store counts as down. One may lie on the same shard. */
const PROBES = 3

export interface StoreRecovery {
  /** Brings the whole store up to date. Rejects if it is still down. */
  recover(): Promise<void>
  /** Brings the store up to date with one key. Rejects if it still fails. */
  recoverKey(key: string): Promise<void>
  /** The whole store is down from now on. */
  onOpen(): void
  /** Some keys of streams that are open, to be probed. May repeat itself. */
  heldKeys(): readonly string[]
}

/**
 * Whether a store may be asked for a key. A key that fails is down by itself, at once; the store as a whole is down only if
 * probes of other keys fail as well. Until that is known, other keys are asked for as before.
 */
export class StoreAvailability {
  readonly #store: SlotStore
  readonly #recovery: StoreRecovery
  readonly #health: StoreHealth
  readonly #failingKeys: FailingKeys
  /** While it is being found out whether one key failed or the whole store: the promise of that. */
  #verdict: Promise<boolean> | undefined

  /** @param consequence what happens while the store or a key is down, in words for the log. */
  constructor(store: SlotStore, recovery: StoreRecovery, consequence: string) {
    const leaseMs = store.leaseMs ?? Infinity
    this.#store = store
    this.#recovery = recovery
    this.#health = new StoreHealth(() => this.#recover(), leaseMs, consequence)
    this.#failingKeys = new FailingKeys((key) => this.#recoverKey(key), leaseMs, consequence)
  }

  /** Whether the whole store is down. */
  get isDown(): boolean {
    return this.#health.isOpen
  }

  /** Whether a key is not to be asked for, since it fails or the whole store does. */
  isKeyDown(key: string): boolean {
    return this.#health.isOpen || this.#failingKeys.has(key)
  }

  /** Whether a key has failed by itself. */
  isKeyFailing(key: string): boolean {
    return this.#failingKeys.has(key)
  }

  /** A command for a key has failed. Resolves with whether the whole store is down. */
  failKey(key: string, error: unknown): Promise<boolean> {
    this.#failingKeys.add(key, error)
    return this.judge(error)
  }

  /** A command for many keys has failed. Resolves with whether the whole store is down. Never rejects. */
  judge(error: unknown): Promise<boolean> {
    if (this.#health.isOpen) return Promise.resolve(true)
    this.#verdict ??= this.#isDownForOthers()
      .then((isDown) => {
        if (isDown) this.#open(error)
        else this.#failingKeys.start()
        return isDown
      })
      .finally(() => {
        this.#verdict = undefined
      })
    return this.#verdict
  }

  async #isDownForOthers(): Promise<boolean> {
    const probes = this.#probeKeys(PROBES).map((key) => this.#probe(key))
    return Promise.any(probes).then(
      () => false,
      () => true,
    )
  }

  #open(error: unknown): void {
    // Its keys are all alike now.
    this.#failingKeys.clear()
    this.#recovery.onOpen()
    this.#health.open(error)
  }

  async #recover(): Promise<void> {
    this.#failingKeys.clear()
    const [key] = this.#probeKeys(1)
    await this.#probe(key as string)
    await this.#recovery.recover()
  }

  /** The store is up to date, but for the keys that failed meanwhile. */
  close(): void {
    this.#health.close()
    this.#failingKeys.start()
  }

  async #recoverKey(key: string): Promise<void> {
    await this.#probe(key)
    await this.#recovery.recoverKey(key)
  }

  /** A key is up to date. */
  closeKey(key: string): void {
    this.#failingKeys.delete(key)
  }

  async #probe(key: string): Promise<void> {
    await this.#store.count(key)
  }

  /** Keys that are not known to fail: those of streams, and at least one that nobody has. They may lie on other shards. */
  #probeKeys(count: number): string[] {
    const held = this.#recovery.heldKeys().filter((key) => !this.#failingKeys.has(key))
    const keys = new Set(count === 1 ? held.slice(0, 1) : held.slice(0, count - 1))
    while (keys.size < count) keys.add(`probe-${Math.random()}`)
    return [...keys]
  }
}
