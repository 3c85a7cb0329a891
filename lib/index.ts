export type { StreamError, StreamErrorCode } from './errors.js'
export { MemoryStore } from './limit/memory-store.js'
export type { AcquireOptions, Grant, HeldSlot, Lease, LeaseState, SlotStore } from './limit/slot-store.js'
export { type StreamLimit, streamLimit } from './limit/stream-limit.js'
export type { StreamLimitOptions } from './limit/stream-limit-options.js'
export { problemJson } from './problem-json.js'
export type { StreamResult } from './stream/event-pump.js'
export { asText, type EventRule, type JsonRule, type TextRule } from './stream/event-rule.js'
export type { WithholdReason } from './stream/frame-event.js'
export type { OnWithhold } from './stream/gate.js'
export { type OpenSessionOptions, openSession } from './stream/open-session.js'
export { type StreamEventsOptions, streamEvents } from './stream/stream-events.js'
export type { StreamHeaders } from './stream/stream-head.js'
export type { StreamEvent, StreamSource } from './stream/stream-source.js'
export {
  type DefineEventsOptions,
  defineEvents,
  type EventRules,
  type ViewerEvent,
  type ViewerEvents,
} from './stream/viewer-events.js'
