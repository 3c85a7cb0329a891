import { accessSync, constants } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

// No jest in this file: the script that makes the screenshot uses it too.

/** The Chromium of this machine: `CHROMIUM_PATH`, or where Debian puts it. Undefined if there is none. */
export function findChromium(): string | undefined {
  const paths = [process.env.CHROMIUM_PATH, '/usr/bin/chromium', '/usr/bin/chromium-browser']
  return paths.find((path): path is string => path !== undefined && path !== '' && canRun(path))
}

/** Starts it with a profile of its own, which is gone when the browser is closed. */
export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}

function canRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
