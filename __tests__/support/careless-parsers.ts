/**
 * Two parsers that are wrong in the ways that parsers with millions of users are. A stream that both read as a correct
 * parser does is safe for all of these. They are given all of a stream up to its last event.
 */

/** Dispatches at every blank line, with empty data too: openai-python, @microsoft/fetch-event-source. */
export function readAtBlankLines(text: string): string[] {
  const events: string[] = []
  let lines: string[] = []
  for (const line of linesUpToLastEvent(text)) {
    if (line !== '') lines.push(line)
    else {
      events.push(dataOf(lines).join('\n'))
      lines = []
    }
  }
  return events
}

/** Knows no blocks, and takes what is behind each `data:`: readers written by hand. */
export function readLineByLine(text: string): string[] {
  return dataOf(linesUpToLastEvent(text))
}

/** An event whose blank line has not arrived is not dispatched by anybody yet. */
function linesUpToLastEvent(text: string): string[] {
  const lines = text.split('\n').slice(0, -1)
  return lines.slice(0, lines.lastIndexOf('') + 1)
}

function dataOf(lines: readonly string[]): string[] {
  return lines.filter((line) => line.startsWith('data:')).map((line) => line.slice(5).replace(/^ /, ''))
}
