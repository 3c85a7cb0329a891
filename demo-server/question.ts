import express, { type NextFunction, type Request, type Response } from 'express'
import createError from 'http-errors'

const LONGEST_QUESTION = 300
const EXAMPLE = '{"question": "How many requests have you seen?"}'

const parseJson = express.json()

/** Reads a JSON body and puts its question on `res.locals`, or answers 400. */
export function readQuestion(req: Request, res: Response, next: NextFunction): void {
  parseJson(req, res, (error: unknown) => {
    if (error) return next(explainBadJson(error))
    try {
      res.locals.question = checkQuestion(req.body)
    } catch (refusal) {
      return next(refusal)
    }
    next()
  })
}

/** The question that `readQuestion` found. */
export function questionOf(res: Response): string {
  return res.locals.question
}

function checkQuestion(body: unknown): string {
  if (body === undefined) {
    throw createError(400, `Send JSON, with 'Content-Type: application/json', such as ${EXAMPLE}`)
  }
  const { question } = body as { question?: unknown }
  if (question === undefined) throw createError(400, `There is no "question" in the body. Send ${EXAMPLE}`)
  if (typeof question !== 'string' || question.trim() === '') {
    throw createError(400, `"question" must be a text that is not empty. Send ${EXAMPLE}`)
  }
  if (question.length > LONGEST_QUESTION) {
    throw createError(
      400,
      `"question" has ${question.length} characters; at most ${LONGEST_QUESTION} are read.`,
    )
  }
  return question
}

/** The parser's own text says at which character it gave up, and not what to send instead. */
function explainBadJson(error: unknown): unknown {
  const { type } = error as { type?: unknown }
  return type === 'entity.parse.failed'
    ? createError(400, `The body is not valid JSON. Send ${EXAMPLE}`)
    : error
}
