/** What to try, as shown at the start and on `/`. */
export function usage(origin: string): string {
  return `express-sse-guard demo on ${origin} (open it in a browser, or go on here)

  Watch this server's own traffic, as a viewer and as an admin:
    curl -N -H 'Authorization: Bearer viewer:alice' ${origin}/events
    curl -N -H 'Authorization: Bearer admin:root' ${origin}/events

  Ask it something (about requests, streams, uptime, load or memory):
    curl -N -H 'Authorization: Bearer viewer:alice' -H 'Content-Type: application/json' \\
      -d '{"question": "How many requests have you seen?"}' ${origin}/ask

  See how many streams you hold, and the limit:
    curl -w '\\n' -H 'Authorization: Bearer viewer:alice' ${origin}/whoami

  Open one stream more than the limit, in as many terminals: it is refused with 429.

  Share the limit with another demo: start both with REDIS_URL=redis://127.0.0.1:6379, and one with PORT=3001.

  This login believes any name you give. A demo does that; production must not.
`
}
