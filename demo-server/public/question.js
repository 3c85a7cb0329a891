import { call, Refusal } from './api.js'
import { byId, plural, showFieldError } from './dom.js'
import { describeRefusal } from './refusal.js'
import { SseParser } from './sse-parser.js'

const MOST_CHARACTERS = 300
const LOST = 'The connection was lost before the last word.'
const REFUSED = 'Refused.'

/** Asks, shows the answer as it comes, and stops it. */
export class Question {
  #field = byId('question')
  #ask = byId('ask')
  #stop = byId('stop')
  #answer = byId('answer')
  #state = byId('answer-state')
  #tokens = 0
  #controller
  /** Whether the last one was refused for want of a slot. */
  #isOverLimit = false
  /** Counts answers, and what ends them: the news of an old one must not be told of a new one. */
  #runs = 0

  /**
   * @param connections.reserve resolves to what gives a connection back, to null if the server is to refuse, or to
   *   undefined if there is none to have.
   * @param connections.onChange called when an answer starts or stops to hold a slot.
   * @param connections.onStarved called when the server answered although there was no connection to spare.
   */
  constructor({ reserve, onChange, onStarved }) {
    this.reserve = reserve
    this.onChange = onChange
    this.onStarved = onStarved
    byId('ask-form').addEventListener('submit', (event) => {
      event.preventDefault()
      if (!this.#controller) this.#run()
    })
    this.#field.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
      event.preventDefault()
      this.#field.form.requestSubmit()
    })
    this.#stop.addEventListener('click', () => this.stop())
  }

  /** How many slots it takes. */
  get slots() {
    return this.#controller ? 1 : 0
  }

  stop() {
    this.#controller?.abort()
  }

  /** Says that what was refused would not be now. */
  markFree(isFree) {
    if (!this.#isOverLimit) return
    const text = isFree ? 'Refused. A slot is free now: ask again.' : REFUSED
    // The same again would be read out again.
    if (this.#state.textContent !== text) this.#state.textContent = text
  }

  clear() {
    this.#runs += 1
    this.stop()
    this.#isOverLimit = false
    this.#answer.textContent = ''
    this.#answer.hidden = true
    this.#state.textContent = ''
    byId('answer-tokens').textContent = ''
    byId('answer-refusal').replaceChildren()
    showFieldError(this.#field)
  }

  async #run() {
    const question = this.#field.value.trim()
    const mistake = mistakeIn(question)
    if (mistake) return showFieldError(this.#field, mistake)
    this.clear()
    const run = this.#runs
    const controller = new AbortController()
    this.#controller = controller
    const release = await this.reserve()
    if (release === undefined || controller.signal.aborted) {
      release?.()
      this.#controller = undefined
      return
    }
    this.#begin()
    let answerId
    try {
      const response = await fetch('ask', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ question }),
        signal: controller.signal,
      })
      if (!response.ok) throw await Refusal.from(response)
      answerId = response.headers.get('X-Answer-Id')
      this.onChange()
      if (release === null) {
        this.onStarved()
        controller.abort()
      }
      const isComplete = await this.#read(response.body)
      this.#state.textContent = isComplete ? 'The answer is complete.' : LOST
    } catch (error) {
      if (!controller.signal.aborted) this.#showFailure(error, answerId)
    } finally {
      release?.()
      this.#end()
    }
    if (controller.signal.aborted) await this.#showCancelled(run, answerId)
  }

  /** Shows the words as they come. Returns whether the last one came. */
  async #read(body) {
    const parser = new SseParser()
    let isComplete = false
    for await (const text of texts(body)) {
      for (const { event, data } of parser.feed(text)) {
        if (event === 'answer.done') isComplete = true
        if (event !== 'answer.token') continue
        this.#answer.append(JSON.parse(data).text)
        this.#tokens += 1
        byId('answer-tokens').textContent = plural(this.#tokens, 'token')
      }
    }
    return isComplete
  }

  #begin() {
    this.#tokens = 0
    this.#answer.hidden = false
    this.#answer.setAttribute('aria-busy', 'true')
    this.#state.textContent = 'Answering…'
    this.#ask.setAttribute('aria-disabled', 'true')
    this.#stop.removeAttribute('aria-disabled')
  }

  #end() {
    this.#controller = undefined
    this.#answer.removeAttribute('aria-busy')
    this.#ask.removeAttribute('aria-disabled')
    this.#stop.setAttribute('aria-disabled', 'true')
    this.onChange()
  }

  #showFailure(error, answerId) {
    this.#answer.hidden = this.#tokens === 0
    if (error instanceof Refusal) {
      this.#isOverLimit = error.status === 429
      this.#state.textContent = REFUSED
      byId('answer-refusal').replaceChildren(...describeRefusal(error))
    } else this.#state.textContent = answerId ? LOST : 'There was no connection to the server.'
  }

  /** What the server says of the answer that was left: only it knows whether the work ended. */
  async #showCancelled(run, answerId) {
    if (run !== this.#runs) return
    if (!answerId) {
      this.#state.textContent = 'Stopped before an answer began.'
      return
    }
    this.#state.textContent = 'Stopped. Asking the server what became of its work…'
    for (let tries = 0; tries < 10; tries += 1) {
      const { answered } = (await call('slots').catch(() => {})) ?? {}
      if (run !== this.#runs) return
      if (answered?.id === answerId) {
        const { tokens, of } = answered
        this.#state.textContent =
          tokens < of
            ? `Stopped. The server cancelled its source after ${tokens} of ${of} tokens.`
            : `Stopped too late: the server had given all ${of} tokens.`
        byId('answer-tokens').textContent = `${plural(this.#tokens, 'token')} arrived here.`
        return
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
      if (run !== this.#runs) return
    }
    this.#state.textContent = 'Stopped. The server did not say what became of its work.'
  }
}

function mistakeIn(question) {
  if (question === '') return 'Type a question first.'
  if (question.length <= MOST_CHARACTERS) return undefined
  return `A question has at most ${MOST_CHARACTERS} characters, and this one has ${question.length}.`
}

/** The body as text. Not every browser can iterate over a ReadableStream. */
async function* texts(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) yield value
}
