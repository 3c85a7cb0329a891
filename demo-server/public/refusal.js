import { el, plural, timeOf } from './dom.js'

/**
 * `RateLimit-Policy: "sse";q=5;qu="concurrent-requests"` and `RateLimit: "sse";r=0` in words, or undefined if
 * there is no such policy.
 */
function policyInWords(headers) {
  const [, name, quota] =
    /^"([^"]*)";q=(\d+);qu="concurrent-requests"/.exec(headers.get('RateLimit-Policy')) ?? []
  if (!quota) return undefined
  const [, rest] = /;r=(\d+)/.exec(headers.get('RateLimit')) ?? []
  const free = rest === undefined ? '' : `; ${rest} ${rest === '1' ? 'is' : 'are'} free`
  return quota === '0'
    ? `Policy "${name}": no stream may be open.`
    : `Policy "${name}": at most ${plural(Number(quota), 'stream')} open at once per user${free}.`
}

/** A refusal as it came just now: the status, the policy in words, the header behind them and the body. */
export function describeRefusal(refusal) {
  const { status, statusText, headers, body, problem } = refusal
  const policy = policyInWords(headers)
  return [
    el(
      'p',
      {},
      el('strong', { className: 'status' }, `${status} ${statusText}`),
      ' ',
      el('span', { className: 'muted' }, `at ${timeOf(new Date())}`),
    ),
    ...(policy ? [el('p', {}, policy)] : []),
    ...['RateLimit-Policy', 'RateLimit', 'Retry-After', 'Content-Type']
      .filter((name) => headers.get(name))
      .map((name) => el('p', { className: 'header-line' }, el('code', {}, `${name}: ${headers.get(name)}`))),
    el('pre', {}, el('code', {}, problem ? JSON.stringify(problem, null, 2) : body)),
  ]
}
