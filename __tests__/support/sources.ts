import type { StreamEvent } from 'express-sse-guard'

/** A source that never yields and never ends by itself. */
export const never: AsyncIterable<StreamEvent> = {
  [Symbol.asyncIterator]: () => ({
    next: () => new Promise(() => {}),
  }),
}
