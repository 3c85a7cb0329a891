import { execFileSync } from 'node:child_process'

/** How many of so many streams one process can have open here, by the limit on open files; it says so if fewer. */
export function possibleStreams(wanted: number): number {
  const text = execFileSync('/bin/sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim()
  const possible = text === 'unlimited' ? wanted : Math.min(wanted, Number(text) - 200)
  if (possible < wanted) console.log(`Only ${possible} instead of ${wanted} streams: see ulimit -n.\n`)
  return possible
}
