import type { Grant, LeaseState } from './slot-store.js'

const STATES: ReadonlySet<unknown> = new Set<LeaseState>(['renewed', 'lost', 'evicted', 'kicked'])

/** @throws TypeError for an answer to an acquire that is none: a store that is not what it says fails. */
export function validateGrant(grant: Grant): Grant {
  const { granted, held } = grant ?? {}
  // Read once: what is looked at later cannot throw any more, when the slot is held already.
  if (typeof granted === 'boolean' && typeof held === 'number') return { granted, held }
  throw new TypeError('The store answered an acquire with something other than { granted, held }')
}

/** @throws TypeError for an answer to a renew of `length` leases that is none. */
export function validateLeaseStates(states: readonly LeaseState[], length: number): readonly LeaseState[] {
  const isComplete = Array.isArray(states) && states.length === length
  if (isComplete && states.every((state) => STATES.has(state))) return states
  throw new TypeError(
    "The store answered a renew with something other than 'renewed', 'lost', 'evicted' or 'kicked' for each lease",
  )
}
