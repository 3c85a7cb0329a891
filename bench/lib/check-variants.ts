// Whether all variants send the same events: tsx check-variants.ts variants/express peers/hono ...
import { setTimeout as sleep } from 'node:timers/promises'
import { OpenStreams } from './open-streams.js'
import { Reader } from './reader.js'
import type { Variant } from './variant.js'

const STREAMS = 3
const TOKENS = 2_000

/** For each variant what it did; an error says what went wrong with the first that failed. */
const report: Record<string, string> = {}
for (const module of process.argv.slice(2)) {
  const { variant } = (await import(`../${module}.ts`)) as { variant: Variant }
  report[module] = module.endsWith('-answer') ? await checkAnswer(variant) : await checkStreams(variant)
}
console.log(JSON.stringify(report))
process.exit()

async function checkAnswer(variant: Variant): Promise<string> {
  const { eventName, ownEvents = [] } = variant
  const { port, close } = await variant.start(new OpenStreams(), { tokens: TOKENS })
  await new Reader().readAnswer({ port, eventName, ownEvents }, TOKENS)
  close()
  return `an answer of ${TOKENS} events`
}

async function checkStreams(variant: Variant): Promise<string> {
  const { eventName, ownEvents = [] } = variant
  const streams = new OpenStreams()
  const { port, close, countStreams = () => streams.size, countSlots } = await variant.start(streams, {})
  const streamsAre = async (expected: number) => {
    while (countStreams() !== expected || (countSlots?.() ?? expected) !== expected) await sleep(5)
  }
  const target = { port, eventName, ownEvents }
  const reader = new Reader()

  await reader.open(target, STREAMS, streams.nextIndex)
  await streamsAre(STREAMS)
  await Promise.all([reader.read(64 * 3 + 10), streams.send(3, 64).then(() => streams.send(10, 1))])
  await reader.close()
  await streamsAre(0)
  await reader.openAndLeave(target, 5)
  await streamsAre(0)
  close()
  return `${streams.nextIndex} events to each of ${STREAMS} streams`
}
