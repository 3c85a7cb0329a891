import { byId, el, plural, timeOf } from './dom.js'
import { fieldsOf } from './payload.js'

const MOST_ROWS = 50

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
      if (wasPressed) this.#resume('you paused it')
      else this.#pause('you paused it')
    })
  }

  add(event) {
    if (this.#reasons.size === 0) return this.#insert(event)
    this.#missed += 1
    this.#waiting.push(event)
    if (this.#waiting.length > MOST_ROWS) this.#waiting.shift()
    this.#showWaiting()
  }

  clear() {
    this.#rows.replaceChildren()
    this.#waiting = []
    this.#missed = 0
    this.#showWaiting()
    byId('no-rows').hidden = false
  }

  #insert({ name, payload, at }) {
    this.#rows.prepend(
      el(
        'tr',
        {},
        el('td', { className: 'time' }, timeOf(at)),
        el('td', { className: 'name' }, ...breakable(name)),
        el('td', { className: 'payload' }, ...fieldsOf(payload).flatMap((pair) => [pair, ' '])),
      ),
    )
    if (this.#rows.children.length > MOST_ROWS) this.#rows.lastChild.remove()
    byId('no-rows').hidden = true
  }

  #pause(reason) {
    this.#reasons.add(reason)
    this.#showState()
  }

  #resume(reason) {
    if (!this.#reasons.delete(reason)) return
    this.#showState()
    if (this.#reasons.size > 0) return
    for (const event of this.#waiting.splice(0)) this.#insert(event)
    this.#missed = 0
    this.#showWaiting()
  }

  #showState() {
    const [reason] = this.#reasons
    byId('pause-state').textContent = reason ? `Paused, as ${reason}.` : ''
  }

  #showWaiting() {
    byId('pause-waiting').textContent = this.#missed === 0 ? '' : `${plural(this.#missed, 'event')} waiting.`
  }
}

/** A name that may break after a dot, which a narrow screen needs. */
function breakable(name) {
  return name.split(/(?<=\.)/).flatMap((part) => [part, el('wbr')])
}
