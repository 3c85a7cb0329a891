import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/** The bytes of the heap that are in use after a full collection. */
export function heapAfterCollection(): number {
  gc()
  gc()
  return process.memoryUsage().heapUsed
}
