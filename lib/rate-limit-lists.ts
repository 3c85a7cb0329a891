import type { ServerResponse } from 'node:http'

/** Lists (RFC 9651 section 3.1) to which each limiter adds its own policy: express-rate-limit, or another limiter of ours. */
const LISTS = new Set(['ratelimit', 'ratelimit-policy'])

/**
 * The headers of an error, with the policies that other limiters have put on the response in front of those of the error.
 * What has them in front already stays as it is, so that it may be asked twice.
 */
export function withOtherPolicies(res: ServerResponse, headers: object): Record<string, unknown> {
  const merged = Object.entries(headers).map(([name, value]): [string, unknown] => {
    const present = LISTS.has(name.toLowerCase()) ? res.getHeader(name) : undefined
    if (present === undefined) return [name, value]
    const others = [present].flat().join(', ')
    const isMerged = value === others || (typeof value === 'string' && value.startsWith(`${others}, `))
    return [name, isMerged ? value : [others, value].flat().join(', ')]
  })
  return Object.fromEntries(merged)
}
