import type { ServerResponse } from 'node:http'

/** A limiter that admitted a response, as the streaming half sees it. */
export interface SlotOwner {
  /**
   * The viewer has left, and a source of the response has not settled: the limiter counts it from now on.
   *
   * @returns a function to be called when it has settled.
   */
  abandonSource(): () => void
}

/** Under this key a response has its limiters. `Symbol.for`, as the package may be loaded twice. */
const SLOT_OWNERS = Symbol.for('express-sse-guard.slotOwners')

interface WithOwners {
  [SLOT_OWNERS]?: SlotOwner[]
}

/** A limiter has admitted a response. Limiters stack, so there may be several. */
export function addSlotOwner(res: ServerResponse, owner: SlotOwner): void {
  const owned = res as WithOwners
  owned[SLOT_OWNERS] ??= []
  owned[SLOT_OWNERS].push(owner)
}

/**
 * Counts a source of a response as abandoned, under each of its limiters, until the calls into it have settled. Must not
 * hold on to the response: some sources never settle.
 *
 * @param calls what calls into the source have answered. Only promises are outstanding.
 */
export function reportAbandonedSource(res: ServerResponse, calls: readonly PromiseLike<unknown>[]): void {
  const owners = (res as WithOwners)[SLOT_OWNERS] ?? []
  if (owners.length === 0 || calls.length === 0) return
  const settle = owners.map((owner) => owner.abandonSource())
  Promise.allSettled(calls).then(() => {
    for (const each of settle) each()
  })
}
