// Over HTTP/1.1 a browser opens six connections to one host, over all its tabs, and whatever needs a seventh waits
// without an error. A stream keeps its connection, so five may be streams: one stays free for short calls.
export const FOR_STREAMS = 5

/** Releases that are under way. */
const ending = new Set()
let heldHere = 0

/**
 * Reserves one of the five connections. Returns the function that gives it back, or undefined if all are taken.
 *
 * Each is a lock of the browser, which knows those of all tabs and frees those of a tab that is gone. Where there
 * are no locks (a page that came over plain HTTP from another machine) only this tab's are known.
 */
export async function reserveConnection() {
  if (!navigator.locks) return reserveHere()
  await Promise.all(ending)
  for (let number = 1; number <= FOR_STREAMS; number += 1) {
    const release = await takeLock(`stream-connection-${number}`)
    if (release) return release
  }
  return undefined
}

/** Whether one of the five is free now. */
export async function hasFreeConnection() {
  if (!navigator.locks) return heldHere < FOR_STREAMS
  const { held } = await navigator.locks.query()
  return held.filter(({ name }) => name.startsWith('stream-connection-')).length < FOR_STREAMS
}

function reserveHere() {
  if (heldHere >= FOR_STREAMS) return undefined
  heldHere += 1
  return once(() => {
    heldHere -= 1
  })
}

function takeLock(name) {
  return new Promise((resolve, reject) => {
    const free = navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(undefined)
      return new Promise((end) => {
        resolve(
          once(() => {
            ending.add(free)
            free.finally(() => ending.delete(free))
            end()
          }),
        )
      })
    })
    free.catch(reject)
  })
}

function once(callback) {
  let done = false
  return () => {
    if (!done) callback()
    done = true
  }
}
