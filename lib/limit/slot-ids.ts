import { randomBytes } from 'node:crypto'

/**
 * Makes a source of slot ids that are unique over all processes: 96 random bits drawn once, then a count.
 * Only uniqueness matters, as slot ids never leave the server.
 */
export function createSlotIds(): () => string {
  const prefix = randomBytes(12).toString('base64url')
  let taken = 0
  return () => {
    taken += 1
    return `${prefix}-${taken.toString(36)}`
  }
}
