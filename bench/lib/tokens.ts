import { type BenchEvent, benchEvent } from './bench-event.js'

/** An answer: so many events, each there as soon as it is asked for. */
export async function* tokens(count: number): AsyncGenerator<BenchEvent> {
  for (let index = 0; index < count; index += 1) yield benchEvent(index)
}
