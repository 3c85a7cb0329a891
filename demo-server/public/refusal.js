import { el, plural } from './dom.js'

/**
 * `RateLimit-Policy: "sse";q=5;qu="concurrent-requests"` and `RateLimit: "sse";r=0` in words, or undefined if
 * there is no such policy.
 */
function policyInWords(headers) {
  const [, name, quota] =
    /^"([^"]*)";q=(\d+);qu="concurrent-requests"/.exec(headers.get('RateLimit-Policy')) ?? []
  if (!quota) return undefined
  const [, rest] = /;r=(\d+)/.exec(headers.get('RateLimit')) ?? []
  const left = rest === undefined ? '' : `; ${Number(rest) === 0 ? 'none' : rest} left`
  return `Policy ${name}: ${plural(Number(quota), 'stream')} open at once${left}.`
}

/** A refusal as it came: the status, the policy in words, the header behind them and the body. */
export function describeRefusal(refusal) {
  const { status, statusText, headers, body, problem } = refusal
  const policy = policyInWords(headers)
  return [
    el('p', { className: 'status-line' }, `${status} ${statusText}`),
    ...(policy ? [el('p', {}, policy)] : []),
    ...['RateLimit-Policy', 'RateLimit', 'Retry-After', 'Content-Type']
      .filter((name) => headers.get(name))
      .map((name) => el('p', { className: 'header-line' }, el('code', {}, `${name}: ${headers.get(name)}`))),
    el('pre', {}, el('code', {}, problem ? JSON.stringify(problem, null, 2) : body)),
  ]
}
