import { createApp, type DemoOptions } from '../../demo-server/app.js'
import { open, type StreamClient } from './clients.js'
import { serve } from './server.js'

const running = new Set<{ stop(): void }>()

afterEach(() => {
  for (const demo of running) demo.stop()
  running.clear()
})

export const ALICE = { Authorization: 'Bearer viewer:alice' }
export const BOB = { Authorization: 'Bearer viewer:bob' }
export const ROOT = { Authorization: 'Bearer admin:root' }

type Headers = Record<string, string>

/** The demo on a free port, until the end of the test. */
export async function startDemo(options?: DemoOptions) {
  const demo = createApp(options)
  running.add(demo)
  const { url } = await serve(demo.app)
  return {
    ...demo,
    url,
    watch: (headers: Headers) => open(`${url}/events`, { headers }),
    ask: (body: string | undefined, headers: Headers = ALICE) =>
      open(`${url}/ask`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...headers },
        ...(body !== undefined && { body }),
      }),
    get: (path: string, headers: Headers = {}, method = 'GET') => fetch(url + path, { method, headers }),
    // biome-ignore lint/suspicious/noExplicitAny: whatever the server wrote
    whoami: async (headers: Headers): Promise<any> => (await fetch(`${url}/whoami`, { headers })).json(),
  }
}

/** The payload of the first event of this name that the condition holds for; waits for it. */
export async function payloadOf(
  client: StreamClient,
  name: string,
  // biome-ignore lint/suspicious/noExplicitAny: payloads are whatever the server wrote
  condition: (data: any) => boolean = () => true,
) {
  const find = () => payloadsOf(client, name).find(condition)
  await client.until(() => find() !== undefined)
  return find()
}

/** The payloads of all events of this name so far. */
export function payloadsOf(client: StreamClient, name: string) {
  return client.events.filter(({ event }) => event === name).map(({ data }) => JSON.parse(data))
}

/** The status, type and parsed body of a response that ends. */
export async function problemOf(client: StreamClient) {
  await client.over
  return {
    status: client.status,
    type: client.response.headers['content-type'],
    body: JSON.parse(client.text),
  }
}
