/** What every variant sends: small, like a token of an answer, and different each time. */
export interface BenchEvent {
  event: string
  data: BenchData
}

interface BenchData {
  index: number
  text: string
}

const WORDS = ['stream', 'of', 'small', 'events', 'that', 'arrive', 'one', 'by']

/** The event of that number. Server and reader both know it, so that the reader can check what arrived. */
export function benchEvent(index: number): BenchEvent {
  return { event: 'token', data: { index, text: textOf(index) } }
}

/** Throws unless `text` is the data of the event of that number, complete and in its place. */
export function checkBenchData(text: string, index: number): void {
  const data = JSON.parse(text) as BenchData
  const isComplete = data.index === index && data.text === textOf(index) && Object.keys(data).length === 2
  if (!isComplete) throw new Error(`event ${index} arrived as ${text}`)
}

function textOf(index: number): string {
  return `${WORDS[index % 8]} ${WORDS[(index >> 3) % 8]} ${WORDS[(index >> 6) % 8]}`
}
