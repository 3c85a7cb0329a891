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

/**
 * What follows is in two sorted sets for each user. `slots`: id -> expiry. `history`: id -> when it was taken, and
 * tombstones -> minus their expiry. The name of a tombstone is EVICTED or KICKED and the id. It has a line break, as no
 * id has. Both sets live for three leases after they were last added to or renewed. What has expired is removed by the next
 * acquire or kick of the user, and now and then by a renewal.
 */
const BOTH = `${NOW}
local EVICTED, KICKED = 'e\\n', 'k\\n'

local function extend_ttl(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end

local function remove_expired(slots, history)
  local expired = redis.call('ZRANGEBYSCORE', slots, '-inf', now)
  for _, id in ipairs(expired) do
    redis.call('ZREM', slots, id)
    redis.call('ZREM', history, id)
  end
end
`

/** Ends slots, and leaves tombstones that a renewal will find for two leases. */
const END_SLOTS = `
local function end_slots(slots, history, ids, mark, lease, channel)
  redis.call('ZREMRANGEBYSCORE', history, -now, 0)
  for _, id in ipairs(ids) do
    redis.call('ZREM', slots, id)
    redis.call('ZREM', history, id)
    redis.call('ZADD', history, -(now + 2 * lease), mark .. id)
  end
  extend_ttl(history, 3 * lease)
  if channel ~= '' then redis.call('PUBLISH', channel, mark .. table.concat(ids, '\\n')) end
end
`

/**
 * Takes a slot: forgetting what has expired, counting, choosing whom to evict and adding are one step, so that of many
 * who ask at once exactly as many are let in as there is room.
 *
 * KEYS: slots, history. ARGV: id, limit, lease, '1' to evict the oldest if full, channel for notices or ''.
 * Returns granted (0 or 1), how many are held, and the ids that were evicted.
 */
export const ACQUIRE = script(`${BOTH}${END_SLOTS}
local slots, history = KEYS[1], KEYS[2]
local id, limit, lease, evict, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]

remove_expired(slots, history)
local held = redis.call('ZCARD', slots)
if redis.call('ZSCORE', slots, id) then return {1, held} end
if held >= limit and not (evict and limit > 0) then return {0, held} end

local evicted = {}
if held >= limit then
  local ids, since = redis.call('ZRANGE', slots, 0, -1), {}
  for _, other in ipairs(ids) do since[other] = tonumber(redis.call('ZSCORE', history, other) or 0) end
  table.sort(ids, function(a, b)
    if since[a] == since[b] then return a < b end
    return since[a] < since[b]
  end)
  for i = 1, held - limit + 1 do evicted[i] = ids[i] end
  end_slots(slots, history, evicted, EVICTED, lease, channel)
end

redis.call('ZADD', slots, now + lease, id)
redis.call('ZADD', history, now, id)
extend_ttl(slots, 3 * lease)
extend_ttl(history, 3 * lease)
local reply = {1, held - #evicted + 1}
for _, other in ipairs(evicted) do reply[#reply + 1] = other end
return reply
`)

/**
 * Extends slots: asking whether each is still held and extending it are one step, so that none is brought back which
 * expired, or was released or ended, between the two. Both sets of each user live on, whether or not a slot is extended.
 *
 * KEYS: slots and history of each user. ARGV: lease, '1' to remove what has expired as well, and all ids, one a line, with an
 * empty line after those of each user (each argument of its own costs the client more than all else).
 * Returns a string with one character for each id: '1' extended, '0' not held, 'e' evicted, 'k' kicked.
 */
export const RENEW = script(`${BOTH}
local lease, tidy = tonumber(ARGV[1]), ARGV[2] == '1'
local states = {}

local function why_not_held(history, id)
  local evicted = redis.call('ZSCORE', history, EVICTED .. id)
  if evicted and -evicted > now then return 'e' end
  local kicked = redis.call('ZSCORE', history, KICKED .. id)
  if kicked and -kicked > now then return 'k' end
  return '0'
end

local function renew(slots, history, ids)
  local extended = {}
  for i, expiry in ipairs(redis.call('ZMSCORE', slots, unpack(ids))) do
    if expiry and tonumber(expiry) > now then
      states[#states + 1] = '1'
      extended[#extended + 1] = now + lease
      extended[#extended + 1] = ids[i]
    else
      states[#states + 1] = why_not_held(history, ids[i])
    end
  end
  if #extended > 0 then redis.call('ZADD', slots, unpack(extended)) end
  if tidy then
    remove_expired(slots, history)
    redis.call('ZREMRANGEBYSCORE', history, -now, 0)
  end
  redis.call('PEXPIRE', slots, 3 * lease)
  redis.call('PEXPIRE', history, 3 * lease)
end

local user, ids = 1, {}
for line in string.gmatch(ARGV[3], '([^\\n]*)\\n') do
  if line ~= '' then
    ids[#ids + 1] = line
  else
    renew(KEYS[2 * user - 1], KEYS[2 * user], ids)
    user, ids = user + 1, {}
  end
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
export const KICK = script(`${BOTH}${END_SLOTS}
local slots, history = KEYS[1], KEYS[2]
remove_expired(slots, history)
local ids = redis.call('ZRANGE', slots, 0, -1)
if #ids > 0 then end_slots(slots, history, ids, KICKED, tonumber(ARGV[1]), ARGV[2]) end
return ids
`)
