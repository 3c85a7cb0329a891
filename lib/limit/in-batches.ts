/** So many at the same time: enough to fill a round trip, too few to flood a store that was away. */
const AT_ONCE = 100

/** Does the work for each item, many at a time, and rejects with the first that fails. */
export async function inBatches<Item>(
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  for (let first = 0; first < items.length; first += AT_ONCE) {
    await Promise.all(items.slice(first, first + AT_ONCE).map(work))
  }
}
