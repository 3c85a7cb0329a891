import { el } from './dom.js'

/** The fields of a payload, each as its name and its value: exactly what arrived. */
export function fieldsOf(payload) {
  return Object.entries(payload ?? {}).map(([key, value]) =>
    el('span', { className: 'pair' }, el('span', { className: 'key' }, key), ' ', textOf(value)),
  )
}

/** The values of a payload in one line. */
export function summaryOf(payload) {
  return Object.values(payload ?? {})
    .map(textOf)
    .join(' · ')
}

function textOf(value) {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
