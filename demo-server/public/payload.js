import { el } from './dom.js'

/** The fields of a payload, each as its name and its value: exactly what arrived. */
export function fieldsOf(payload) {
  return Object.entries(payload ?? {}).map(([key, value]) =>
    el('span', { className: 'pair' }, el('span', { className: 'key' }, key), ' ', textOf(value)),
  )
}

const SUMMARIES = {
  'request.seen': ({ method, path, status }) => `${method} ${path} ${status}`,
  'request.detail': ({ path, bytesSent }) => `${path} ${bytesSent} bytes`,
  'process.load': ({ cpuPercent }) => `cpu ${cpuPercent} %`,
  'answer.ended': ({ tokens, of }) => `${tokens} of ${of} tokens`,
  'events.dropped': ({ count }) => `${count} dropped`,
}

/** What tells most of a payload, short enough for a line of a card. */
export function summaryOf(name, payload) {
  return SUMMARIES[name]?.(payload) ?? ''
}

function textOf(value) {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
