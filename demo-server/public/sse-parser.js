/** Parses an event stream as it arrives (WHATWG HTML 9.2.6), for fetch: EventSource cannot POST. */
export class SseParser {
  #rest = ''
  #endedInCr = false
  #name = ''
  #data = []

  /** The events that this piece of text completes, as `{ event, data }` with the data as text. */
  feed(text) {
    if (text === '') return []
    // A CR ended its line already; the LF of the pair may come with the next piece.
    const fresh = this.#endedInCr && text.startsWith('\n') ? text.slice(1) : text
    this.#endedInCr = text.endsWith('\r')
    const lines = (this.#rest + fresh).split(/\r\n|\r|\n/)
    this.#rest = lines.pop()
    return lines.map((line) => this.#take(line)).filter(Boolean)
  }

  #take(line) {
    if (line === '') return this.#dispatch()
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line)
    if (field === 'event') this.#name = value
    if (field === 'data') this.#data.push(value)
    return undefined
  }

  #dispatch() {
    const event = { event: this.#name || 'message', data: this.#data.join('\n') }
    const isEvent = this.#data.length > 0
    this.#name = ''
    this.#data = []
    return isEvent ? event : undefined
  }
}
