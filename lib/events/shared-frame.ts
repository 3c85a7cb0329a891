import { type FrameResult, frameEvent } from './frame-event.js'
import type { CompiledRules } from './viewer-events.js'

/** The event that was framed last in this tick under one whitelist. */
interface LatestFrame {
  readonly name: string
  readonly data: unknown
  readonly id: string
  readonly result: FrameResult | Promise<FrameResult>
}

/** By whitelist. Only within a tick: until then nobody but the Channel that pushes has had a turn to change the payload. */
const latestOf = new Map<CompiledRules, LatestFrame>()

/**
 * As {@link frameEvent}, for `session.push`. A better-sse Channel pushes one event, with one id, to each of its sessions: under
 * one whitelist its frame is made once. An event without an id may be another one every time.
 */
export function frameToPush(
  rules: CompiledRules,
  item: { event: string; data: unknown; id: string | undefined },
): FrameResult | Promise<FrameResult> {
  const { event: name, data, id } = item
  if (!id) return frameEvent(rules, item)
  const latest = latestOf.get(rules)
  if (latest && latest.id === id && latest.data === data && latest.name === name) return latest.result
  if (latestOf.size === 0) process.nextTick(forget)
  const result = frameEvent(rules, item)
  latestOf.set(rules, { name, data, id, result })
  return result
}

function forget(): void {
  latestOf.clear()
}
