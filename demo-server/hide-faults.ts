import type { NextFunction, Request, Response } from 'express'
import createError from 'http-errors'

/**
 * Turns an error that nobody has answered into a bare 500 for the next error handler, and logs it: its text is
 * for us and not for the visitor. After the headers were sent only Express's own handler can still do something.
 */
export function hideFaults(error: unknown, _req: Request, res: Response, next: NextFunction): void {
  if (res.headersSent) return next(error)
  console.error(error)
  next(createError(500, { expose: true }))
}
