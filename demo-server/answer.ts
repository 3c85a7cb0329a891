import { availableParallelism, loadavg } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import type { StreamEvent } from 'express-sse-guard'
import type { TrafficCounts } from './traffic.js'

/** What the server knows about itself at the time of a question. */
export interface Facts {
  traffic: TrafficCounts
  /** Slots that the asker holds, that of the answer included. */
  used: number
  cap: number
  /** Open streams of all users in this process. */
  open: number
}

/** What can be asked, the words that ask for it, and what is said. */
const TOPICS: readonly { about: string; asked: RegExp; say: (facts: Facts) => string }[] = [
  {
    about: 'requests',
    asked: /\brequests?\b|\btraffic\b|\berrors?\b|\brefused\b/i,
    say: ({ traffic }) =>
      `I have answered ${traffic.requests} requests since I started: ${traffic.failed} with an error status, ` +
      `${traffic.refused} of them over the cap.`,
  },
  {
    about: 'streams',
    asked: /\bstreams?\b|\bslots?\b|\bcap\b|\blimits?\b/i,
    say: ({ used, cap, open }) =>
      `You hold ${used} of ${cap} slots, this answer included; in this process all users together have ${open} open.`,
  },
  {
    about: 'uptime',
    asked: /\buptime\b|\bup\b|\blong\b|\bstart(ed)?\b|\bsince\b/i,
    say: () => `I have been up for ${Math.round(process.uptime())} seconds.`,
  },
  {
    about: 'load',
    asked: /\bload\b|\bcpu\b|\bbusy\b/i,
    say: () =>
      `The load averages are ${loadavg()
        .map((load) => load.toFixed(2))
        .join(', ')} on ${availableParallelism()} cores.`,
  },
  {
    about: 'memory',
    asked: /\bmemory\b|\bheap\b|\bram\b/i,
    say: () => `I use ${Math.round(process.memoryUsage.rss() / 1e6)} MB of memory.`,
  },
]

/** Answers a question from the server's own figures; one it knows nothing about, with what it can be asked. */
export function answer(question: string, facts: Facts): string {
  const found = TOPICS.filter(({ asked }) => asked.test(question))
  if (found.length > 0) return found.map(({ say }) => say(facts)).join(' ')
  const topics = TOPICS.map(({ about }) => about).join(', ')
  return `I know only my own figures. Ask me about one of these: ${topics}.`
}

/** How far an answer came. */
export interface AnswerEnd {
  tokens: number
  of: number
}

/**
 * Gives an answer word by word, at the pace at which a language model would. When the signal aborts, the wait for
 * the next word rejects and the work ends there.
 *
 * @param onEnd called once the work has ended, also if it was given up.
 */
export async function* speak(
  text: string,
  { signal, delayMs, onEnd }: { signal: AbortSignal; delayMs: number; onEnd: (end: AnswerEnd) => void },
): AsyncGenerator<StreamEvent, void> {
  const words = text.match(/\S+\s*/g) ?? []
  let tokens = 0
  try {
    for (const word of words) {
      await setTimeout(delayMs, undefined, { signal })
      tokens += 1
      yield { event: 'answer.token', data: { text: word } }
    }
    yield { event: 'answer.done', data: { tokens } }
  } finally {
    onEnd({ tokens, of: words.length })
  }
}
