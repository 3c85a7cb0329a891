import { setImmediate, setTimeout } from 'node:timers/promises'

/**
 * Resolves as soon as the condition holds; fails after `withinMs`. It is asked in each of the next turns of the event
 * loop, and then every millisecond, which leaves the cores to the processes that are waited for.
 */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + withinMs
  for (let asked = 0; !(await condition()); asked += 1) {
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition}`)
    await (asked < 20 ? setImmediate() : setTimeout(1))
  }
}
