/**
 * Where slots live. Implement this to keep them somewhere else.
 *
 * **Leases, not counters.** A store holds, for each key, the set of slot ids that are open now; their number
 * is the count. It never holds a number of its own that is counted up and down: such a number drifts with
 * every crash and every close that is reported twice. Because a release names its slot, an old close can
 * never free a newer stream's slot.
 *
 * **Who calls.** Only the limiter: `acquire` before a stream opens, `release` when its response has closed.
 * Calls for one key may overlap, from this process and from others.
 *
 * **Answers.** Each method may answer at once or with a promise. Answering at once spares the request a tick.
 *
 * **Errors.** A method that throws or rejects says "I do not know". The limiter takes the key that it asked for as down, treats
 * that key as `whenStoreDown` says, and asks for a few other keys with `count`. If one of them answers, the store is up, and
 * the key alone is tried again now and then; a `renew` of many keys that rejects is repeated key by key. If none answers,
 * the store is down: the limiter calls nothing but one `count` now and then, until that answers. Then, as for one key that
 * answers again, it renews the leases of its open streams, puts back those that are lost with
 * `acquire(key, slotId, Infinity)`, and releases what has closed meanwhile, or whose acquire may have happened although its
 * answer was lost. A method that never settles is not taken for an error: a store that asks a server sets itself a time
 * limit.
 *
 * **Time.** A store owns no timer. A store that is shared between processes gives each slot an expiry, says in
 * `leaseMs` how long that is, and forgets a slot that `renew` did not come for in time; one that lives and dies with
 * its process needs none of this.
 */
export interface SlotStore {
  /**
   * How many milliseconds a slot lives after its acquire or its last renewal. The limiter renews three times in that
   * time. Absent: slots live until they are released, and nothing is renewed. With it, `renew` is needed.
   */
  readonly leaseMs?: number

  /**
   * Takes a slot for `key` if fewer than `limit` are held, in one step that no other acquire can divide:
   * of K simultaneous calls against a limit of N, exactly N are granted.
   *
   * A slot id that is held already is granted again and changes nothing, so a caller may repeat a call whose
   * answer was lost.
   *
   * @param key whose stream this is: any non-empty string, to be treated as opaque. Hash what does not fit: a key that
   *   makes the store fail is counted by each process for itself.
   * @param slotId at most 64 printable ASCII characters, unique over all processes.
   * @param limit an integer >= 0, or Infinity. It may differ from call to call (a changed plan): slots that
   *   are held already are not taken away, but none is granted until fewer than `limit` are held.
   */
  acquire(key: string, slotId: string, limit: number, options?: AcquireOptions): Grant | Promise<Grant>

  /** Gives a slot back. A second time, after expiry, or for an unknown slot it does nothing. */
  release(key: string, slotId: string): void | Promise<void>

  /** How many slots `key` holds now; 0 for a key never seen. Never negative. */
  count(key: string): number | Promise<number>

  /**
   * Extends leases that are still open by `leaseMs` from now, and says of each, in the same order, how it stands.
   * There may be many: all that this process holds. A slot that is not held is never brought back by it. Whatever a store
   * keeps for these keys must live on, however many limiters renew other keys in between.
   */
  renew?(leases: readonly Lease[]): readonly LeaseState[] | Promise<readonly LeaseState[]>

  /** Ends all slots of `key` and returns their ids. A later `renew` of one of them answers 'kicked'. */
  kick?(key: string): readonly string[] | Promise<readonly string[]>

  /** The slots that `key` holds now, oldest first. */
  list?(key: string): readonly HeldSlot[] | Promise<readonly HeldSlot[]>

  /**
   * Calls `onEnded` with the ids of slots that were evicted or kicked by any process, soon after that, so that their
   * streams need not wait for the next renewal. What this process evicts or kicks itself is told before that call is
   * answered. The same slot may be told twice. Called at most once by each limiter, when it is made. Notices may get
   * lost, and the promise, if there is one, may reject: `renew` says the same.
   */
  watch?(onEnded: (slotIds: readonly string[], state: 'evicted' | 'kicked') => void): void | Promise<void>

  /** Lets go of connections and the like. No other method is called afterwards. */
  close?(): void | Promise<void>
}

/** What an acquire may ask for beyond the slot. A store that cannot do it acquires as if it were not asked. */
export interface AcquireOptions {
  /** When the key is full, end its oldest slots to make room instead of refusing. Default false. */
  evictOldest?: boolean | undefined
  /** Kept with the slot and returned by `list`. */
  meta?: Readonly<Record<string, string>> | undefined
}

/** The answer to an acquire. */
export interface Grant {
  /** Whether the caller now holds the slot. */
  granted: boolean
  /** How many slots the key holds after this call, the granted one included. */
  held: number
  /** The slot ids that were ended to make room. */
  evicted?: readonly string[] | undefined
}

/** One slot of one key. */
export interface Lease {
  key: string
  slotId: string
}

/** How a lease stands: still held, unknown to the store, or ended on purpose. */
export type LeaseState = 'renewed' | 'lost' | 'evicted' | 'kicked'

/** A slot as `list` shows it. */
export interface HeldSlot {
  slotId: string
  meta?: Readonly<Record<string, string>> | undefined
}
