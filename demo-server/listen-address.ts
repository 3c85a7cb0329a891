/** Where to listen. */
export interface ListenAddress {
  port: number
  host: string
}

/**
 * Reads `PORT` (default 3000; 0 takes any free one) and `HOST` (default 127.0.0.1: a login that believes
 * everybody has no place on a network).
 *
 * @throws Error that quotes a `PORT` or `HOST` that cannot work.
 */
export function readListenAddress({ PORT = '3000', HOST = '127.0.0.1' }: NodeJS.ProcessEnv): ListenAddress {
  const port = Number(PORT)
  if (!/^\d+$/.test(PORT) || port > 65535) {
    throw new Error(`PORT is '${PORT}'; give a number from 0 to 65535, such as PORT=3000, or unset it`)
  }
  // Node takes an empty host for all interfaces.
  if (HOST === '') throw new Error("HOST is ''; give an address, such as HOST=127.0.0.1, or unset it")
  return { port, host: HOST }
}

/** Whether only this machine can reach an address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d+){3}$/.test(host)
}

/** Says in one line why listening failed and what to type instead. */
export function explainListenError(error: NodeJS.ErrnoException, { port, host }: ListenAddress): string {
  const another = port < 65535 ? Math.max(port + 1, 3000) : 3000
  switch (error.code) {
    case 'EADDRINUSE':
      return `Port ${port} is taken by another program. Choose another: PORT=${another} npm run demo`
    case 'EACCES':
      return `Port ${port} is not allowed for you. Choose one from 1024 up: PORT=${another} npm run demo`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `HOST '${host}' is no address of this machine. Leave it out: PORT=${port} npm run demo`
    default:
      return `Cannot listen on ${host}:${port}: ${error.message}`
  }
}
