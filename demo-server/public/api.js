/** How long one of the page's own calls may take. It is answered in milliseconds, if all is well. */
export const CALL_TIMEOUT_MS = 3000

/** An answer that is no success. */
export class Refusal extends Error {
  constructor(status, statusText, headers, body) {
    const problem = parse(body)
    super(problem?.detail ?? `${status} ${statusText}`)
    Object.assign(this, { status, statusText, headers, body, problem })
  }

  static async from(response) {
    return new Refusal(response.status, response.statusText, response.headers, await response.text())
  }
}

/**
 * One short call. Throws a Refusal for a status that is no success, a TimeoutError if it got no answer in time, and
 * TypeError if there is no server.
 */
export async function call(path, { method = 'GET', body } = {}) {
  const response = await fetch(path, {
    method,
    cache: 'no-store',
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    ...(body && { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
  })
  if (!response.ok) throw await Refusal.from(response)
  return response.status === 204 ? undefined : await response.json()
}

function parse(body) {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}
