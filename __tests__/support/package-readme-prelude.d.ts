// Names that the examples of the README and of docs/ may use without importing or declaring them. What its first example declares
// is known as well and is not repeated here; what an example imports or declares itself comes first, because each
// is a module.
declare const express: typeof import('express').default
declare const z: typeof import('zod').z
declare const session: import('better-sse').Session

declare const defineEvents: typeof import('express-sse-guard').defineEvents
declare const openSession: typeof import('express-sse-guard').openSession
declare const streamEvents: typeof import('express-sse-guard').streamEvents
declare const streamLimit: typeof import('express-sse-guard').streamLimit
declare const problemJson: typeof import('express-sse-guard').problemJson
declare const MemoryStore: typeof import('express-sse-guard').MemoryStore

// The browser's, as far as an example needs it: the types of Node 20 have none.
declare class EventSource {
  constructor(url: string, options?: { withCredentials?: boolean })
  readonly readyState: number
  addEventListener(name: string, listener: (event: { data: string }) => void): void
  close(): void
}

// What an example needs of packages that are not installed here.
declare namespace Express {
  interface Request {
    /** Of express-session. */
    session: { lastSeen?: number; save(callback: (error?: unknown) => void): void }
  }
}
/** Of @modelcontextprotocol/sdk. */
declare const transport: {
  handleRequest(
    req: import('node:http').IncomingMessage,
    res: import('node:http').ServerResponse,
    body?: unknown,
  ): Promise<void>
}
