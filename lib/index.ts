export type { StreamError, StreamErrorCode } from './errors.js'
export { asText, type EventRule, type JsonRule, type TextRule } from './events/event-rule.js'
export type { WithholdReason } from './events/frame-event.js'
export {
  type DefineEventsOptions,
  defineEvents,
  type EventRules,
  type ViewerEvent,
  type ViewerEvents,
} from './events/viewer-events.js'
export { problemJson } from './limit/problem-json.js'
export { type StreamLimit, streamLimit } from './limit/stream-limit.js'
export type { StreamLimitOptions } from './limit/stream-limit-options.js'
export { MemoryStore } from './store/memory-store.js'
export type { AcquireOptions, Grant, HeldSlot, Lease, LeaseState, SlotStore } from './store/slot-store.js'
export { type OpenSessionOptions, openSession } from './stream/open-session.js'
export type { StreamResult } from './stream/pump.js'
export type { OnWithhold } from './stream/session-context.js'
export type { StreamEvent, StreamSource } from './stream/source.js'
export { type StreamEventsOptions, streamEvents } from './stream/stream-events.js'
export type { StreamHeaders } from './wire/head.js'
