import { CALL_TIMEOUT_MS, call, Refusal } from './api.js'
import { FOR_STREAMS, hasFreeConnection, reserveConnection } from './connections.js'
import { announce, byId, el, showFieldError } from './dom.js'
import { EventTable } from './event-table.js'
import { dateGauge, showGauge } from './gauge.js'
import { pressOnce } from './press-once.js'
import { Question } from './question.js'
import { StreamCard } from './stream-card.js'
import { showWithheld } from './withheld.js'

const LOOK_EVERY_MS = 1000
/** A slot is given back some milliseconds after a stream was closed here. */
const LOOK_AFTER_MS = 60

/** Who is logged in: `{ name, role, events }`, or undefined. */
let caller
let cards = []
/** The card whose events the table shows. */
let followed
/** Cards for which a connection is being reserved: a second click must not open a second stream. */
const reserving = new Set()
let lookTimer
let lastLook = 0
/** Counts logins and logouts: what was asked before one says nothing of who is here after it. */
let logins = 0
/** Whether a logout is still to be told to the server. */
let isLeaving = false
/** Whether who is found to be logged in next is no surprise: by the form of this tab, or when the page was loaded. */
let isExpected = true
/** Whose streams another tab's logout closed here, until the next login. */
let ousted
const table = new EventTable()
const question = new Question({
  reserve,
  onChange: lookSoon,
  onStarved: () => explainConnections('The answer took the last connection, so the page stopped it.'),
})
/** Between the tabs, which share one login: a hidden one does not look by itself. */
const channel = new BroadcastChannel('login')
channel.addEventListener('message', () => look())

// --- logging in and out

byId('login-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const field = byId('name')
  const { role } = Object.fromEntries(new FormData(event.target))
  try {
    await call('login', { method: 'POST', body: { name: field.value.trim(), role } })
  } catch (error) {
    if (error instanceof Refusal) showFieldError(field, error.message)
    else explain(error)
    return
  }
  showFieldError(field)
  isLeaving = false
  isExpected = true
  logins += 1
  channel.postMessage('login')
  await look()
})

byId('log-out').addEventListener('click', async () => {
  // The streams first: a logout that waits for a connection would never get one.
  isLeaving = true
  logins += 1
  leave()
  showView(false)
  await look()
})

function enter(seen) {
  leave()
  caller = seen
  // Whoever logs in next has to choose a role anew.
  byId('login-form').reset()
  byId('caller-name').textContent = seen.name
  byId('caller-role').textContent = seen.role
  byId('curl').textContent =
    `curl -N -H 'Authorization: Bearer ${seen.role}:${seen.name}' ${location.origin}/events`
  showView(true)
  showFollowed()
  announce(`Logged in as ${seen.name}, ${seen.role}`)
}

function leave() {
  for (const card of cards) card.close()
  cards = []
  byId('cards').replaceChildren()
  question.clear()
  table.clear()
  hideNotice()
  if (caller) announce('Logged out')
  caller = undefined
}

function showView(isLoggedIn) {
  const isFirst = !byId('loading').hidden
  byId('loading').hidden = true
  byId('caller').hidden = !isLoggedIn
  byId('board').hidden = !isLoggedIn
  byId('process').hidden = !isLoggedIn
  byId('login').hidden = isLoggedIn
  // What had the focus is gone. Not at the first view, where nothing had it.
  if (!isFirst) (isLoggedIn ? byId('open-stream') : byId('name')).focus()
}

// --- the gauge: one short call a second, as a stream of its own would take a slot and a connection

async function look() {
  clearTimeout(lookTimer)
  try {
    if (isLeaving) {
      await call('logout', { method: 'POST', body: {} })
      isLeaving = false
      channel.postMessage('logout')
    }
    const usedHere = slotsHere()
    lastLook += 1
    const number = lastLook
    const asked = logins
    const seen = await call('slots').catch((error) => {
      if (asked === logins) throw error
    })
    if (asked !== logins) return undefined
    hideNotice('call')
    if (!seen) return showNobody()
    if (seen.name !== caller?.name || seen.role !== caller?.role) {
      const before = caller ?? ousted
      enter(seen)
      if (!isExpected) showNotice('login', ...changedBy(`Another tab logged in as ${seen.name}`, before))
      isExpected = false
      ousted = undefined
    }
    // An answer that a newer look has overtaken would turn the gauge back.
    if (number === lastLook) {
      showGauge(seen, Math.min(usedHere, slotsHere()))
      for (const refused of [question, ...cards]) refused.markFree(hasFreeSlot(seen))
    }
    await hideNoticeOfConnections()
    return seen
  } catch (error) {
    await explain(error)
    return undefined
  } finally {
    clearTimeout(lookTimer)
    lookTimer = setTimeout(lookAgain, LOOK_EVERY_MS)
  }
}

/** The server knows nobody here: not yet, or no more. */
function showNobody() {
  const before = caller
  if (before || byId('login').hidden) {
    leave()
    showView(false)
  }
  isExpected = false
  if (!before) return
  ousted = before
  showNotice('login', ...changedBy('You are logged out', before))
}

function lookAgain() {
  const isIdle = !byId('login').hidden && byId('notice').dataset.about !== 'call'
  if (document.hidden || isIdle) lookTimer = setTimeout(lookAgain, LOOK_EVERY_MS)
  else look()
}

function lookSoon() {
  clearTimeout(lookTimer)
  lookTimer = setTimeout(lookAgain, LOOK_AFTER_MS)
}

/** What to say when this tab's login was changed, as all tabs share one cookie; of whom, if somebody was here. */
function changedBy(title, before) {
  const closed = before ? `, so the streams of ${before.name} were closed here` : ''
  return [title, `All tabs of a browser share the login${closed}.`]
}

function hasFreeSlot({ used, cap }) {
  return cap === null || used < cap
}

function slotsHere() {
  return [question, ...cards].reduce((sum, { slots }) => sum + slots, 0)
}

// --- the streams

byId('open-stream').addEventListener('click', () => openStream())

async function openStream(again = cards.find(({ state }) => state === 'refused')) {
  const owner = caller
  if (!owner || reserving.has(again) || again?.isActive) return
  if (again) reserving.add(again)
  const release = await reserve().finally(() => reserving.delete(again))
  // Much may have happened meanwhile: a logout, another login, the card removed.
  const isWanted = caller === owner && (!again || cards.includes(again))
  if (release === undefined || !isWanted) return release?.()
  const card = again ?? addCard()
  card.open(release ?? undefined)
}

function addCard() {
  const card = new StreamCard((cards.at(-1)?.number ?? 0) + 1, caller.events, openStream)
  let isNew = true
  card.addEventListener('state', () => {
    // Of many fast clicks beyond the cap, one refusal says all.
    if (
      isNew &&
      card.state === 'refused' &&
      cards.some((other) => other !== card && other.state === 'refused')
    ) {
      removeCard(card)
    }
    isNew &&= card.state === 'connecting'
    // A stream that came back may be of another user by now, and a hidden tab would not look by itself.
    if (card.state === 'open') look()
    else lookSoon()
    showFollowed()
    if (card.state === 'closed') hideNotice('stream')
  })
  card.addEventListener('event', ({ detail }) => {
    if (card !== followed) return
    if (detail.name === 'events.withheld') showWithheld(card, caller.role)
    else table.add(detail)
  })
  card.addEventListener('starved', () =>
    explainConnections('A slot was free after all, but no connection was.'),
  )
  card.addEventListener('remove', () => {
    const index = cards.indexOf(card)
    removeCard(card)
    const neighbour = cards[index] ?? cards.at(-1) ?? byId('open-stream')
    neighbour.focus({ preventScroll: true })
  })
  cards.push(card)
  byId('cards').append(card.element)
  showFollowed()
  return card
}

function removeCard(card) {
  card.close()
  cards = cards.filter((other) => other !== card)
  card.element.remove()
  showFollowed()
}

/** The table goes on with the same stream while that is open, and then with any, as each brings the same. */
function showFollowed() {
  if (!caller) return
  if (followed?.state !== 'open') followed = cards.find(({ state }) => state === 'open')
  byId('no-cards').hidden = cards.length > 0
  byId('followed').textContent = followed
    ? `Of stream ${followed.number}, with all that ${caller.role === 'admin' ? 'an admin' : 'a viewer'} gets of each event.`
    : whenNoneIsOpen()
  showWithheld(followed, caller.role)
}

function whenNoneIsOpen() {
  const waiting = cards.find(({ state }) => state === 'waiting')
  if (waiting) return `Waiting for stream ${waiting.number} to come back.`
  return table.isEmpty ? 'Open a stream to see them.' : 'Open a stream to see more.'
}

setInterval(() => {
  for (const card of cards) card.tick()
}, 1000)

// --- connections

/**
 * A connection for a stream: what gives it back; null if there is none but the server is going to refuse anyway,
 * which takes no more than a short call; undefined if there is none and the server would grant a slot.
 */
async function reserve() {
  const release = await reserveConnection()
  if (release) return release
  const seen = await look()
  if (!seen) return undefined
  if (!hasFreeSlot(seen)) return null
  explainConnections(
    seen.cap === null
      ? 'The server has no cap.'
      : `The server would allow another stream: ${seen.used} of ${seen.cap} slots are used.`,
  )
  return undefined
}

// --- what to say when something does not work

async function explain(error) {
  const seconds = CALL_TIMEOUT_MS / 1000
  dateGauge()
  if (error instanceof Refusal) {
    showNotice('call', 'The server refused', error.message)
  } else if (error.name === 'TimeoutError' && !(await hasFreeConnection())) {
    explainConnections(`A call of this page has just got no answer in ${seconds} seconds.`, 'call')
  } else if (error.name === 'TimeoutError') {
    showNotice(
      'call',
      `The server has not answered for ${seconds} seconds`,
      'It may be busy, or something else in this browser may hold all six connections to it. The page goes on trying.',
    )
  } else {
    showNotice('call', 'The server does not answer', 'Is it still running? The page goes on trying.')
  }
}

function explainConnections(first, about = 'stream') {
  showNotice(
    about,
    'The browser has run out of connections',
    `${first} Over HTTP/1.1 a browser opens at most six connections to a server, over all its tabs. ${FOR_STREAMS} ` +
      'may hold streams; the sixth is left for short calls such as the gauge. If a stream took that too, this page ' +
      'would hang without any error. Close a stream, here or in another tab. Over HTTP/2 there is no such limit.',
  )
}

function showNotice(about, title, text) {
  const notice = byId('notice')
  // The same again would be read out again. To a click it is the answer, so it takes the focus to be seen.
  if (!notice.hidden && notice.dataset.about === about && byId('notice-text').textContent === title + text) {
    if (about === 'stream') notice.focus()
    return
  }
  notice.dataset.about = about
  byId('notice-text').replaceChildren(el('h2', {}, title), el('p', {}, text))
  notice.hidden = false
}

/** Hides the notice, if it is about this. */
function hideNotice(about) {
  const notice = byId('notice')
  if (about && notice.dataset.about !== about) return
  if (notice.contains(document.activeElement)) beforeNotice?.focus({ preventScroll: true })
  notice.hidden = true
  delete notice.dataset.about
}

/** What had the focus before the notice had it. */
let beforeNotice
byId('notice').addEventListener('focusin', ({ currentTarget, relatedTarget }) => {
  if (!currentTarget.contains(relatedTarget)) beforeNotice = relatedTarget
})

/** Another tab may have given a connection back. */
async function hideNoticeOfConnections() {
  if (byId('notice').dataset.about === 'stream' && (await hasFreeConnection())) hideNotice('stream')
}

byId('notice-dismiss').addEventListener('click', () => hideNotice())

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && caller) lookSoon()
})

pressOnce()
look()
