import { byId, el, plural } from './dom.js'

/** More slots than this are drawn as one bar. */
const MOST_PIECES = 20

let seenAt

/** Shows the used slots of this user against the cap: those of this page, and those held elsewhere; and who counts them. */
export function showGauge({ used, cap, shared, pid, port }, usedHere) {
  const elsewhere = Math.max(0, used - usedHere)
  const here = used - elsewhere
  const gauge = byId('gauge')
  const isCapped = cap !== null && cap > 0
  seenAt = new Date()
  byId('gauge-age').textContent = ''
  byId('gauge-box').classList.remove('old')
  gauge.hidden = !isCapped
  const total = cap === null ? plural(used, 'slot') : `${used} of ${plural(cap, 'slot')}`
  byId('gauge-text').replaceChildren(
    `${total} used`,
    ...(used === 0
      ? []
      : [': ', legend('here', `${here} by this page`), ', ', legend('elsewhere', `${elsewhere} elsewhere`)]),
    cap === null ? '. There is no cap.' : '.',
  )
  byId('process').textContent = `Process ${pid} on port ${port} answers. ${
    shared ? 'Slots are counted over all processes on the same Redis.' : 'It counts slots by itself.'
  }`
  if (!isCapped) return

  gauge.setAttribute('aria-valuemax', cap)
  gauge.setAttribute('aria-valuenow', Math.min(used, cap))
  gauge.setAttribute('aria-valuetext', `${total} used`)
  const pieces = Math.min(cap, MOST_PIECES)
  while (gauge.children.length < pieces) gauge.append(el('span'))
  while (gauge.children.length > pieces) gauge.lastChild.remove()
  for (const [index, piece] of [...gauge.children].entries()) {
    // What of the whole this piece stands for: of a large cap one may be many slots, and the first shows any at all.
    const upTo = ((index + 1) * cap) / pieces
    const isReachedBy = (slots) => upTo <= slots || (index === 0 && slots > 0)
    piece.className = isReachedBy(here) ? 'here' : isReachedBy(used) ? 'elsewhere' : ''
  }
}

/** Says that what the gauge shows may be true no more. */
export function dateGauge() {
  if (!seenAt) return
  byId('gauge-age').textContent = `As of ${seenAt.toLocaleTimeString('en-GB')}.`
  byId('gauge-box').classList.add('old')
}

function legend(kind, text) {
  return el('span', { className: 'legend' }, el('span', { className: `swatch ${kind}` }), text)
}
