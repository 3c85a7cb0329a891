import { CALL_TIMEOUT_MS, Refusal } from './api.js'
import { announce, el, timeOf } from './dom.js'
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

/** One stream: an EventSource, and the card that shows how it fares. Fires 'state', 'event' and 'remove'. */
export class StreamCard extends EventTarget {
  state = 'closed'
  withheld = { count: 0 }
  #source
  #release
  #asking
  #names
  #openedAt = 0
  #arrivals = []
  #count = 0
  #badge = el('span', { className: 'badge' })
  #note = el('p', { className: 'note' })
  #rate = el('p', { className: 'rate' })
  #last = el('ol', { className: 'last' })
  #details = el('div', { className: 'refusal' })
  #toggle = el('button', { type: 'button' })
  #remove = el('button', { type: 'button' })

  /** @param onToggle called when the stream is wanted again; whoever is called decides whether it may open. */
  constructor(number, names, onToggle) {
    super()
    this.number = number
    this.#names = names
    const heading = el('h3', { id: `stream-${number}` }, `Stream ${number}`)
    this.#last.setAttribute('aria-label', `Last events of stream ${number}`)
    this.#remove.append('Remove', el('span', { className: 'visually-hidden' }, ` stream ${number}`))
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
        el('p', { className: 'buttons' }, this.#toggle, this.#remove),
      ),
    )
    this.element.firstChild.setAttribute('aria-labelledby', heading.id)
    this.#toggle.addEventListener('click', () => (this.isActive ? this.close() : onToggle(this)))
    this.#remove.addEventListener('click', () => {
      this.#asking?.abort()
      this.dispatchEvent(new Event('remove'))
    })
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
    this.#arrivals = []
    this.#count = 0
    this.#last.replaceChildren()
    this.#show('connecting')
    const source = new EventSource('events')
    this.#source = source
    source.onopen = () => this.#onOpen()
    source.onerror = () => this.#onError()
    for (const name of this.#names) source.addEventListener(name, (message) => this.#onEvent(name, message))
  }

  close(note = 'You closed it, and its slot is free again.') {
    this.#end('closed', note)
  }

  /** Shows the rate, which falls also when nothing comes. */
  tick(now = performance.now()) {
    if (this.state !== 'open') return
    this.#arrivals = this.#arrivals.filter((at) => now - at <= RATE_WINDOW_MS)
    const seconds = Math.min(RATE_WINDOW_MS, Math.max(1000, now - this.#openedAt)) / 1000
    const perSecond = (this.#arrivals.length / seconds).toFixed(1)
    this.#rate.replaceChildren(
      el('strong', {}, perSecond),
      ' events/s',
      el('span', { className: 'muted' }, `, ${this.#count} in all`),
    )
  }

  #onOpen() {
    if (!this.#release) {
      this.close('The browser has no connection to spare for it, so the page closed it again.')
      this.dispatchEvent(new Event('starved'))
      return
    }
    this.#openedAt = performance.now()
    this.withheld = { count: 0 }
    this.#show('open')
    this.tick()
  }

  #onError() {
    // CONNECTING: the connection broke or ended, and EventSource has set its timer. CLOSED: it has given up.
    if (this.#source.readyState === EventSource.CONNECTING) {
      this.#show('waiting', 'The connection was lost. EventSource comes back by itself in about 2 seconds.')
      return
    }
    this.#end('refused', 'Refused. Asking why…')
    this.#askWhy(this.#source)
  }

  #onEvent(name, { data }) {
    const payload = JSON.parse(data)
    if (name === 'events.withheld') {
      // About the stream and not part of it: it is neither counted nor listed.
      this.withheld = payload
    } else {
      this.#arrivals.push(performance.now())
      this.#count += 1
      const time = el('span', { className: 'muted' }, timeOf(new Date()))
      this.#last.prepend(el('li', {}, time, ' ', el('strong', {}, name), ' ', summaryOf(payload)))
      if (this.#last.children.length > LAST_EVENTS) this.#last.lastChild.remove()
    }
    this.dispatchEvent(new CustomEvent('event', { detail: { name, payload, at: new Date() } }))
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
    this.#details.replaceChildren(...details)
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
    this.#rate.hidden = state !== 'open'
    this.#last.hidden = state === 'refused'
    this.#details.replaceChildren()
    this.#remove.hidden = this.isActive
    const verb = this.isActive ? 'Close' : state === 'refused' ? 'Try again' : 'Open again'
    // One button that changes its name, so that the keyboard's focus stays where it is.
    this.#toggle.replaceChildren(verb, el('span', { className: 'visually-hidden' }, ` stream ${this.number}`))
    if (!changed) return
    announce(`Stream ${this.number}: ${STATES[state].toLowerCase()}`)
    this.dispatchEvent(new Event('state'))
  }

  /** For the gauge: how many slots it takes. */
  get slots() {
    return this.state === 'open' ? 1 : 0
  }
}
