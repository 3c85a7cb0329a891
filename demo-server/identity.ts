import type { NextFunction, Request, Response } from 'express'
import createError from 'http-errors'

/** Who is calling. */
export interface Caller {
  name: string
  role: 'viewer' | 'admin'
  /** Whose streams are counted together. */
  key: string
}

/** Holds `viewer:alice` for browsers, whose EventSource cannot send an Authorization header. */
export const LOGIN_COOKIE = 'demo-login'

/** The caller that `viewer:alice` stands for, or undefined if it stands for nobody. */
export function parseCaller(credentials: string): Caller | undefined {
  const [, role, name] = /^(viewer|admin):([\w.-]{1,32})$/i.exec(credentials) ?? []
  if (!role || !name) return undefined
  const caller: Caller = { name, role: role.toLowerCase() as Caller['role'], key: '' }
  caller.key = `${caller.role}:${name}`
  return caller
}

/**
 * Who sent a request: with `Authorization: Bearer viewer:alice` (or `admin:root`), or with the cookie of a login that
 * means the same user. A wrong header is nobody's also beside a good cookie.
 *
 * FOR THE DEMO ONLY: it believes whatever name and role it is told. In production this is the place where your
 * session or token is verified.
 */
export function findCaller(req: Request): Caller | undefined {
  const header = req.get('Authorization')
  const [, cookie = ''] = /(?:^|; *)demo-login=([^;]*)/.exec(req.get('Cookie') ?? '') ?? []
  return parseCaller(header === undefined ? cookie : (/^Bearer +(.*)$/i.exec(header)?.[1] ?? ''))
}

/** Lets through a request of somebody, and answers 401 to others. */
export function identify(req: Request, res: Response, next: NextFunction): void {
  const caller = findCaller(req)
  if (!caller) {
    throw createError(401, "Say who you are: curl -H 'Authorization: Bearer viewer:alice' (or admin:root).", {
      headers: { 'WWW-Authenticate': 'Bearer' },
    })
  }
  res.locals.user = caller
  next()
}

/** The caller that `identify` found. */
export function callerOf(res: Response): Caller {
  return res.locals.user
}
