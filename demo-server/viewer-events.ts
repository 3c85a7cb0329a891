import { defineEvents } from 'express-sse-guard'
import { z } from 'zod'

const requestSeen = z.object({
  method: z.string(),
  path: z.string(),
  status: z.number(),
  durationMs: z.number(),
})

/** What a viewer sees of this server's traffic. Whatever is not named here is not sent. */
const viewerRules = {
  'request.seen': requestSeen,
  'process.load': ['loadAverage', 'cpuPercent', 'memoryMb', 'eventLoopDelayMs'],
  'answer.ended': ['tokens', 'of'],
  'events.dropped': true,
  'events.withheld': ['count'],
} as const

/** What an admin sees: more events, and more of those that viewers see too. The texts of questions nobody sees. */
const adminRules = {
  'request.seen': requestSeen.extend({ ip: z.string().nullable(), userAgent: z.string().nullable() }),
  'request.detail': z.object({
    path: z.string(),
    headers: z.record(z.string(), z.string()),
    bytesSent: z.number(),
  }),
  'process.load': ['loadAverage', 'cpuPercent', 'memoryMb', 'eventLoopDelayMs', 'pid'],
  'answer.ended': ['tokens', 'of', 'askedBy'],
  'events.withheld': ['count', 'names'],
} as const

export const viewerEvents = defineEvents(viewerRules)
export const adminEvents = viewerEvents.extend(adminRules)

/** An EventSource hears only of the names that it was given. */
export const viewerNames = Object.keys(viewerRules)
export const adminNames = Object.keys({ ...viewerRules, ...adminRules })

/** What the answer to a question consists of. */
export const answerEvents = defineEvents({
  'answer.token': z.object({ text: z.string() }),
  'answer.done': z.object({ tokens: z.number() }),
})
