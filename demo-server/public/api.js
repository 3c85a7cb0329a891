/** How long one of the page's own calls may take. It is answered in milliseconds if it gets a connection at all. */
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

/** Got no answer in time, which on a fast server means that it got no connection. */
export class Starved extends Error {}

/**
 * One short call. Throws a Refusal for a status that is no success, Starved if it got no answer in time, and
 * TypeError if there is no server.
 */
export async function call(path, { method = 'GET', body } = {}) {
  try {
    const response = await fetch(path, {
      method,
      cache: 'no-store',
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      ...(body && { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
    })
    if (!response.ok) throw await Refusal.from(response)
    return response.status === 204 ? undefined : await response.json()
  } catch (error) {
    throw error.name === 'TimeoutError' ? new Starved() : error
  }
}

function parse(body) {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}
