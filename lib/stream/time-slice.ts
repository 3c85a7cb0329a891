/** How long events may be taken from sources, over all streams, before the event loop gets its turn. */
const SLICE_MS = 10

/** When the first stream took an event since the event loop last had its turn; undefined if none did. */
let sliceBeganAt: number | undefined
/** Who goes on in a later turn, in the order of arrival. */
let waiting: (() => void)[] = []

/** Whether the streams of this process have used up their time in this turn of the event loop. */
export function isSliceUsed(): boolean {
  if (sliceBeganAt !== undefined) return performance.now() - sliceBeganAt >= SLICE_MS
  beginSlice()
  return false
}

/**
 * Calls `resume` in a later turn. Those who wait share one turn's time, first come, first served; those for whom none is left
 * come first in the turn after. `resume` must not throw.
 */
export function yieldToEventLoop(resume: () => void): void {
  if (sliceBeganAt === undefined) beginSlice()
  waiting.push(resume)
}

function beginSlice(): void {
  sliceBeganAt = performance.now()
  setImmediate(nextSlice)
}

async function nextSlice(): Promise<void> {
  sliceBeganAt = undefined
  if (waiting.length === 0) return
  beginSlice()
  const queue = waiting
  waiting = []
  let resumed = 0
  // At least one, or a turn that began late would let nobody in.
  do {
    queue[resumed++]?.()
    // What it has started by promises runs before this goes on, and takes its share.
    await undefined
  } while (resumed < queue.length && !isSliceUsed())
  waiting = [...queue.slice(resumed), ...waiting]
}
