/** Resolves as soon as the condition holds, asked once per turn of the event loop; fails after `withinMs`. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${condition}`)
    await new Promise((resolve) => setImmediate(resolve))
  }
}
