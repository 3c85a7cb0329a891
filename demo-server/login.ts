import type { Request, Response } from 'express'
import createError from 'http-errors'
import { LOGIN_COOKIE, parseCaller } from './identity.js'

// What here does hold in production: scripts cannot read the cookie, pages of other sites cannot make the browser
// send it, and as both routes want JSON, no form on another site can log anybody in or out.
const COOKIE = { httpOnly: true, sameSite: 'strict', encode: String } as const

/** Sets the cookie for `{"name", "role"}`. FOR THE DEMO ONLY: whoever asks to be somebody is. */
export function logIn(req: Request, res: Response): void {
  const { name, role } = bodyOf(req)
  if (role !== 'viewer' && role !== 'admin') throw createError(400, 'Choose a role: viewer or admin.')
  const caller = typeof name === 'string' ? parseCaller(`${role}:${name}`) : undefined
  if (!caller) {
    throw createError(
      400,
      'A name has 1 to 32 letters (a to z), digits, dots, dashes or underscores. Try alice.',
    )
  }
  res.cookie(LOGIN_COOKIE, caller.key, COOKIE).sendStatus(204)
}

export function logOut(req: Request, res: Response): void {
  bodyOf(req)
  res.clearCookie(LOGIN_COOKIE, COOKIE).sendStatus(204)
}

function bodyOf(req: Request): { name?: unknown; role?: unknown } {
  if (!req.body) throw createError(415, "Send JSON, with 'Content-Type: application/json'.")
  return req.body
}
