import { CALL_TIMEOUT_MS, Refusal } from './api.js'
import { announce, el, grouped, timeOf } from './dom.js'
import { summaryOf } from './payload.js'
import { describeRefusal } from './refusal.js'

const STATES = {
  connecting: 'Connecting',
  open: 'Open',
  waiting: 'Waiting to come back',
  refused: 'Refused',
  closed: 'Closed',
}
const LAST_EVENTS = 3
const RATE_WINDOW_MS = 5000
const DRAW_EVERY_MS = 250

/** One stream: an EventSource, and the card that shows how it fares. Fires 'state', 'event' and 'remove'. */
export class StreamCard extends EventTarget {
  state = 'closed'
  withheld = { count: 0 }
  #source
  #release
  #asking
  #names
  #openedAt = 0
  /** Whether it was opened by a click that no slot was granted for yet. */
  #isWanted = false
  #arrivals = []
  #recent = []
  #drawing
  #count = 0
  #badge = el('span', { className: 'badge' })
  #note = el('p', { className: 'note' })
  #rate = el('p', { className: 'rate' })
  #last = el('ol', { className: 'last' })
  #details = el('div', { className: 'refusal' })
  #free = el('span', { className: 'free', hidden: true }, 'A slot is free now.')
  // Buttons of opposite actions have places of their own, or a double click would undo what it did.
  #close = el('button', { type: 'button' })
  #open = el('button', { type: 'button', className: 'again' })
  #remove = el('button', { type: 'button' })

  /** @param onOpen called when the stream is wanted again; whoever is called decides whether it may open. */
  constructor(number, names, onOpen) {
    super()
    this.number = number
    this.#names = names
    const heading = el('h3', { id: `stream-${number}` }, `Stream ${number}`)
    this.#last.setAttribute('aria-label', `Last events of stream ${number}`)
    this.#name(this.#close, 'Close')
    this.#name(this.#remove, 'Remove')
    this.element = el(
      'li',
      {},
      el(
        'article',
        { className: 'card' },
        el('div', { className: 'panel-head' }, heading, this.#badge),
        this.#rate,
        this.#note,
        this.#last,
        this.#details,
        el('p', { className: 'buttons' }, this.#close, this.#free, this.#open, this.#remove),
      ),
    )
    this.element.firstChild.setAttribute('aria-labelledby', heading.id)
    this.#close.addEventListener('click', () => this.close())
    this.#open.addEventListener('click', () => onOpen(this))
    this.#remove.addEventListener('click', () => this.dispatchEvent(new Event('remove')))
    this.#show('closed', 'Not opened yet.')
  }

  /** Whether it holds a connection, or will. */
  get isActive() {
    return ['connecting', 'open', 'waiting'].includes(this.state)
  }

  /** @param release gives back the connection it may hold; without one it may not stay open. */
  open(release) {
    this.#asking?.abort()
    this.#release = release
    this.#isWanted = true
    this.#arrivals = []
    this.#recent = []
    this.#count = 0
    this.#details.classList.add('old')
    this.#draw()
    this.#show('connecting')
    const source = new EventSource('events')
    this.#source = source
    source.onopen = () => this.#onOpen()
    source.onerror = () => this.#onError()
    for (const name of this.#names) source.addEventListener(name, (message) => this.#onEvent(name, message))
  }

  close(note = 'You closed it.') {
    this.#end('closed', note)
  }

  focus() {
    const button = this.#close.hidden ? this.#open : this.#close
    button.focus({ preventScroll: true })
  }

  /** The rate falls also when nothing comes. */
  tick() {
    if (this.state === 'open') this.#draw()
  }

  /** Marks one that was refused and would not be now. */
  markFree(isFree) {
    const isMarked = isFree && this.state === 'refused'
    if (isMarked && this.#free.hidden) announce(`A slot is free for stream ${this.number}`)
    this.#free.hidden = !isMarked
    this.#open.classList.toggle('primary', isMarked)
  }

  #draw() {
    clearTimeout(this.#drawing)
    this.#drawing = undefined
    const now = performance.now()
    this.#arrivals = this.#arrivals.filter((at) => now - at <= RATE_WINDOW_MS)
    const seconds = Math.min(RATE_WINDOW_MS, Math.max(1000, now - this.#openedAt)) / 1000
    const perSecond = (this.#arrivals.length / seconds).toFixed(1)
    this.#rate.replaceChildren(
      el('strong', {}, perSecond),
      ' events/s',
      el('span', { className: 'muted' }, `, ${grouped(this.#count)} in all`),
    )
    this.#last.replaceChildren(
      ...this.#recent.map(({ at, name, payload }) =>
        el(
          'li',
          { title: `${timeOf(at)} ${name} ${JSON.stringify(payload)}` },
          el('strong', {}, name),
          ` ${summaryOf(name, payload)}`,
        ),
      ),
    )
  }

  #onOpen() {
    if (!this.#release) {
      this.close('The page closed it again, as it took the last connection.')
      this.dispatchEvent(new Event('starved'))
      return
    }
    this.#openedAt = performance.now()
    this.#isWanted = false
    this.withheld = { count: 0 }
    this.#draw()
    this.#show('open')
  }

  #onError() {
    // CONNECTING: the connection broke or ended, and EventSource has set its timer. CLOSED: it has given up.
    if (this.#source.readyState === EventSource.CONNECTING) {
      this.#show(
        'waiting',
        this.#isWanted
          ? 'There is no connection to the server yet. EventSource tries again by itself.'
          : 'The connection was lost. EventSource comes back by itself in about 2 seconds.',
      )
      return
    }
    this.#end('refused', this.#details.hasChildNodes() ? '' : 'Refused. Asking why…')
    if (this.state === 'refused') this.#askWhy(this.#source)
  }

  #onEvent(name, { data }) {
    const event = { name, payload: JSON.parse(data), at: new Date() }
    if (name === 'events.withheld') {
      // About the stream and not part of it: it is neither counted nor listed.
      this.withheld = event.payload
    } else {
      this.#arrivals.push(performance.now())
      this.#count += 1
      this.#recent = [event, ...this.#recent].slice(0, LAST_EVENTS)
      this.#drawing ??= setTimeout(() => this.#draw(), DRAW_EVERY_MS)
    }
    this.dispatchEvent(new CustomEvent('event', { detail: event }))
  }

  /** EventSource keeps the answer to itself, so the page asks the same with fetch and shows what comes. */
  async #askWhy(source) {
    const controller = new AbortController()
    this.#asking = controller
    const timer = setTimeout(() => controller.abort(), CALL_TIMEOUT_MS)
    let details
    try {
      const response = await fetch('events', {
        headers: { Accept: 'text/event-stream' },
        cache: 'no-store',
        signal: controller.signal,
      })
      if (response.ok) {
        // A slot came free in between. This was to be a look, so it must not keep it.
        controller.abort()
        details = [el('p', {}, 'It was refused, but by now a slot is free again: try again.')]
      } else {
        const refusal = await Refusal.from(response)
        announce(`Stream ${this.number}: refused with status ${refusal.status}`)
        details = [
          ...describeRefusal(refusal),
          el(
            'p',
            { className: 'muted' },
            'EventSource will not come back by itself: it takes every answer but 200 as final, hides the status ' +
              'and ignores Retry-After. To show you the answer the page asked once more, with fetch.',
          ),
        ]
      }
    } catch {
      details = [el('p', {}, 'The page asked why and got no answer.')]
    } finally {
      clearTimeout(timer)
    }
    if (this.#source !== source || this.state !== 'refused') return
    this.#show('refused')
    this.#details.classList.remove('old')
    this.#details.replaceChildren(...details)
    if (this.#isWanted) this.element.scrollIntoView({ block: 'nearest' })
  }

  #end(state, note) {
    this.#asking?.abort()
    this.#source?.close()
    this.#release?.()
    this.#release = undefined
    this.#show(state, note)
  }

  #show(state, note = '') {
    const changed = this.state !== state
    this.state = state
    this.#badge.textContent = STATES[state]
    this.#badge.dataset.state = state
    this.#note.textContent = note
    this.#note.hidden = note === ''
    // What was refused last stays in view until the next outcome is known, or the card would flicker.
    if (state !== 'refused' && state !== 'connecting') this.#details.replaceChildren()
    const isOfRefusal = state === 'refused' || this.#details.hasChildNodes()
    this.#rate.hidden = state !== 'open'
    this.#last.hidden = isOfRefusal
    this.#name(this.#open, isOfRefusal ? 'Try again' : 'Open again')
    this.#showButtons(this.isActive && !isOfRefusal)
    this.markFree(false)
    if (!changed) return
    announce(`Stream ${this.number}: ${STATES[state].toLowerCase()}`)
    this.dispatchEvent(new Event('state'))
  }

  #showButtons(isToClose) {
    const hadFocus = [this.#close, this.#open].includes(document.activeElement)
    this.#close.hidden = !isToClose
    this.#open.hidden = isToClose
    this.#remove.hidden = isToClose
    if (hadFocus) this.focus()
  }

  #name(button, verb) {
    button.replaceChildren(verb, el('span', { className: 'visually-hidden' }, ` stream ${this.number}`))
  }

  /** For the gauge: how many slots it takes. */
  get slots() {
    return this.state === 'open' ? 1 : 0
  }
}
