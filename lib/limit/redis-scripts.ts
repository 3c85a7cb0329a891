import { createHash } from 'node:crypto'

/** A Lua script that Redis runs as one step: nothing else happens in Redis meanwhile. */
export interface RedisScript {
  readonly lua: string
  /** By which `EVALSHA` calls it. */
  readonly sha1: string
  /** Whether a replica may run it. */
  readonly isReadOnly: boolean
}

function script(lua: string, { isReadOnly = false } = {}): RedisScript {
  return { lua, isReadOnly, sha1: createHash('sha1').update(lua).digest('hex') }
}

/** The time of Redis in milliseconds, so that all processes have one clock. */
const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/** Lets a key live at least `ms` more, for slots and tombstones whose process does not come back for them. */
const OUTLIVE = `
local function outlive(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
`

/**
 * Ends slots: out of `slots`, and into `history` as a tombstone that a renewal will find for two leases. The score of
 * a tombstone is its expiry as a negative number, which keeps it apart from the times at which slots were taken.
 */
const END = `
local function bury(slots, history, ids, mark, channel)
  redis.call('ZREMRANGEBYSCORE', history, -now, 0)
  for _, id in ipairs(ids) do
    redis.call('ZREM', slots, id)
    redis.call('ZREM', history, id)
    redis.call('ZADD', history, -(now + 2 * lease), mark .. id)
  end
  outlive(history, 2 * lease)
  if channel ~= '' then redis.call('PUBLISH', channel, mark .. table.concat(ids, ' ')) end
end
`

/**
 * Takes a slot: forgetting what has expired, counting, choosing whom to evict and adding are one step, so that of many
 * who ask at once exactly as many are let in as there is room.
 *
 * KEYS: slots (id -> expiry), history (id -> when it was taken; tombstones).
 * ARGV: id, limit, lease, '1' to evict the oldest if full, channel for notices or ''.
 * Returns granted (0 or 1), how many are held, and the ids that were evicted.
 */
export const ACQUIRE = script(`${NOW}${OUTLIVE}
local slots, history = KEYS[1], KEYS[2]
local id, limit, lease, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
${END}
local expired = redis.call('ZRANGEBYSCORE', slots, '-inf', now)
for _, gone in ipairs(expired) do
  redis.call('ZREM', slots, gone)
  redis.call('ZREM', history, gone)
end

local held = redis.call('ZCARD', slots)
if redis.call('ZSCORE', slots, id) then return {1, held} end

local reply = {1, 0}
if held >= limit then
  if ARGV[4] ~= '1' or limit < 1 then return {0, held} end
  local all = redis.call('ZRANGE', slots, 0, -1)
  local since = {}
  for _, other in ipairs(all) do since[other] = tonumber(redis.call('ZSCORE', history, other) or 0) end
  table.sort(all, function(a, b)
    if since[a] == since[b] then return a < b end
    return since[a] < since[b]
  end)
  local evicted = {}
  for i = 1, held - limit + 1 do
    evicted[i] = all[i]
    reply[i + 2] = all[i]
  end
  bury(slots, history, evicted, 'e:', channel)
  held = held - #evicted
end

redis.call('ZADD', slots, now + lease, id)
redis.call('ZADD', history, now, id)
outlive(slots, lease)
outlive(history, 86400000)
reply[2] = held + 1
return reply
`)

/**
 * Extends slots: asking whether each is still held and extending it are one step, so that none is brought back which
 * expired, or was released or ended, between the two.
 *
 * KEYS: the slots of each user. ARGV: lease, then for each of KEYS how many ids, and the ids.
 * Returns a string with one '1' (extended) or '0' (not held) for each id.
 */
export const RENEW = script(`${NOW}${OUTLIVE}
local lease = tonumber(ARGV[1])
local states, at = {}, 2
for _, slots in ipairs(KEYS) do
  local last = at + ARGV[at]
  local scores = redis.call('ZMSCORE', slots, unpack(ARGV, at + 1, last))
  local alive = {}
  for i, score in ipairs(scores) do
    if score and tonumber(score) > now then
      alive[#alive + 1] = now + lease
      alive[#alive + 1] = ARGV[at + i]
      states[#states + 1] = '1'
    else
      states[#states + 1] = '0'
    end
  end
  if #alive > 0 then
    redis.call('ZADD', slots, 'XX', unpack(alive))
    outlive(slots, lease)
  end
  at = last + 1
end
return table.concat(states)
`)

/**
 * Tells the slots that were ended from those that were lost; one step for many of them.
 *
 * KEYS: the history of each user. ARGV: for each of KEYS how many ids, and the ids.
 * Returns a string with one 'e' (evicted), 'k' (kicked) or '0' (no tombstone) for each id.
 */
export const ENDED = script(`
local states, at = {}, 1
for _, history in ipairs(KEYS) do
  local last = at + ARGV[at]
  for i = at + 1, last do
    local state = '0'
    if redis.call('ZSCORE', history, 'e:' .. ARGV[i]) then state = 'e' end
    if redis.call('ZSCORE', history, 'k:' .. ARGV[i]) then state = 'k' end
    states[#states + 1] = state
  end
  at = last + 1
end
return table.concat(states)
`)

/**
 * Gives a slot back, and forgets when it was taken in the same step, so that neither is left without the other.
 *
 * KEYS: slots, history. ARGV: id.
 */
export const RELEASE = script(`
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
`)

/**
 * Counts the slots that have not expired, by the clock that set their expiry: reading it and counting are one step.
 *
 * KEYS: slots. Writes nothing.
 */
export const COUNT = script(
  `${NOW}
return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')
`,
  { isReadOnly: true },
)

/**
 * Ends all slots of a user: those that are found are those that are ended, so that a stream which opens at the same
 * time is either ended or entirely after it.
 *
 * KEYS: slots, history. ARGV: lease, channel for notices or ''. Returns the ids that were ended.
 */
export const KICK = script(`${NOW}${OUTLIVE}
local slots, history = KEYS[1], KEYS[2]
local lease, channel = tonumber(ARGV[1]), ARGV[2]
${END}
local ids = redis.call('ZRANGEBYSCORE', slots, '(' .. now, '+inf')
if #ids > 0 then bury(slots, history, ids, 'k:', channel) end
return ids
`)
