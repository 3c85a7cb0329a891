/** The element with this id. */
export const byId = (id) => document.getElementById(id)

/** Makes an element: `el('p', { className: 'muted' }, 'text', child)`. Text is never read as HTML. */
export function el(tag, props = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props)
  element.append(...children)
  return element
}

/** Says a change of state to screen readers. */
export function announce(text) {
  byId('announcer').textContent = text
}

/** Shows a message beside a field, or none. */
export function showFieldError(field, message) {
  const place = byId(`${field.id}-error`)
  place.textContent = message ?? ''
  place.hidden = !message
  if (message) {
    field.setAttribute('aria-invalid', 'true')
    field.focus()
  } else field.removeAttribute('aria-invalid')
}

/** The time of day, to the millisecond. */
export function timeOf(date) {
  return `${date.toLocaleTimeString('en-GB')}.${String(date.getMilliseconds()).padStart(3, '0')}`
}

/** `12,345`. */
export function grouped(count) {
  return count.toLocaleString('en-GB')
}

/** `1 stream`, `2 streams`. */
export function plural(count, one) {
  return `${grouped(count)} ${one}${count === 1 ? '' : 's'}`
}
