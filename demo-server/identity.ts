import type { NextFunction, Request, Response } from 'express'
import createError from 'http-errors'

/** Who is calling. */
export interface Caller {
  name: string
  role: 'viewer' | 'admin'
  /** Whose streams are counted together. */
  key: string
}

/**
 * Lets through a request with `Authorization: Bearer viewer:alice` (or `admin:root`) and answers 401 to others.
 *
 * FOR THE DEMO ONLY: it believes whatever name and role it is told. In production this is the place where your
 * session or token is verified.
 */
export function identify(req: Request, res: Response, next: NextFunction): void {
  const [, role, name] = /^Bearer +(viewer|admin):([\w.-]{1,32})$/i.exec(req.get('Authorization') ?? '') ?? []
  if (!role || !name) {
    throw createError(401, "Say who you are: curl -H 'Authorization: Bearer viewer:alice' (or admin:root).", {
      headers: { 'WWW-Authenticate': 'Bearer' },
    })
  }
  const caller: Caller = { name, role: role.toLowerCase() as Caller['role'], key: '' }
  caller.key = `${caller.role}:${name}`
  res.locals.user = caller
  next()
}

/** The caller that `identify` found. */
export function callerOf(res: Response): Caller {
  return res.locals.user
}
