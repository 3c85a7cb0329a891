import { byId, el, grouped, plural, timeOf } from './dom.js'
import { fieldsOf } from './payload.js'

const MOST_ROWS = 50
const BY_BUTTON = 'you paused it'

/**
 * The table of events, the newest first. It holds still under the pointer, while the keyboard is in it, and when
 * the button says so: what moves can neither be read nor clicked.
 */
export class EventTable {
  #rows = byId('rows')
  #button = byId('pause')
  /** Why it is paused now. */
  #reasons = new Set()
  /** What arrived during the pause, as far as it would still be shown. */
  #waiting = []
  #missed = 0

  constructor() {
    const region = byId('events-region')
    // A finger has no hover; the browser would report one that never ends.
    region.addEventListener('pointerenter', ({ pointerType }) => {
      if (pointerType !== 'touch') this.#pause('the pointer is over it')
    })
    region.addEventListener('pointerleave', () => this.#resume('the pointer is over it'))
    // A click moves the focus too, and would pause the table until the next click elsewhere.
    region.addEventListener('focusin', ({ target }) => {
      if (target.matches(':focus-visible')) this.#pause('the keyboard is in it')
    })
    region.addEventListener('focusout', () => this.#resume('the keyboard is in it'))
    this.#button.addEventListener('click', () => {
      const wasPressed = this.#button.getAttribute('aria-pressed') === 'true'
      this.#button.setAttribute('aria-pressed', String(!wasPressed))
      if (wasPressed) this.#resume(BY_BUTTON)
      else this.#pause(BY_BUTTON)
    })
  }

  add(event) {
    if (!this.#isPaused) return this.#insert(event)
    this.#missed += 1
    this.#waiting.push(event)
    if (this.#waiting.length > MOST_ROWS) this.#waiting.shift()
    this.#showWaiting()
  }

  clear() {
    this.#rows.replaceChildren()
    this.#waiting = []
    this.#missed = 0
    this.#button.setAttribute('aria-pressed', 'false')
    this.#reasons.delete(BY_BUTTON)
    this.#showState()
    this.#showWaiting()
    byId('no-rows').hidden = false
  }

  get isEmpty() {
    return this.#rows.children.length === 0
  }

  /** An empty table has nothing yet that could move away, so only the button holds it. */
  get #isPaused() {
    return this.#reasons.has(BY_BUTTON) || (this.#reasons.size > 0 && !this.isEmpty)
  }

  #insert({ name, payload, at }) {
    this.#rows.prepend(
      el(
        'tr',
        {},
        el('td', { className: 'time' }, ...breakable(timeOf(at))),
        el('td', { className: 'name' }, ...breakable(name)),
        el('td', { className: 'payload' }, ...fieldsOf(payload).flatMap((pair) => [pair, ' '])),
      ),
    )
    if (this.#rows.children.length > MOST_ROWS) this.#rows.lastChild.remove()
    byId('no-rows').hidden = true
    if (this.#rows.children.length === 1) this.#showState()
  }

  #pause(reason) {
    this.#reasons.add(reason)
    this.#showState()
  }

  #resume(reason) {
    if (!this.#reasons.delete(reason)) return
    this.#showState()
    if (this.#isPaused) return
    for (const event of this.#waiting.splice(0)) this.#insert(event)
    this.#missed = 0
    this.#showWaiting()
  }

  #showState() {
    const [reason] = this.#reasons
    byId('pause-state').textContent = this.#isPaused ? `Paused, as ${reason}.` : ''
  }

  #showWaiting() {
    byId('pause-waiting').textContent =
      this.#missed > MOST_ROWS
        ? `${grouped(this.#missed)} new events; the last ${MOST_ROWS} will be shown.`
        : this.#missed > 0
          ? `${plural(this.#missed, 'event')} waiting.`
          : ''
  }
}

/** A text that may break after a dot, which a narrow screen needs. */
function breakable(text) {
  return text.split(/(?<=\.)/).flatMap((part) => [part, el('wbr')])
}
