import { byId, el, grouped } from './dom.js'

/** Shows how many events were withheld from the followed stream; of which names only if the server told them. */
export function showWithheld(card, role) {
  const { count, names } = card?.withheld ?? { count: 0 }
  byId('withheld-count').textContent = card ? grouped(count) : '–'
  byId('withheld-what').textContent = card
    ? `${count === 1 ? 'event' : 'events'} withheld from ${role}s on stream ${card.number}, since it opened`
    : 'No stream is open.'
  const list = byId('withheld-names')
  list.hidden = !names
  list.replaceChildren(
    ...Object.entries(names ?? {}).map(([name, times]) =>
      el('li', {}, el('code', {}, name), ` × ${grouped(times)}`),
    ),
  )
  byId('withheld-why').textContent = WHY[role]
  byId('withheld-why').hidden = !card
}

const WHY = {
  viewer:
    'They are not on the list for viewers, and neither are their names: the server counts them and tells the number.',
  admin: 'An admin is told the names too. What somebody asks the server, for one, is listed for nobody.',
}
