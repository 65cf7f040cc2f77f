-- prelude: names, time, and the counters of one user on one router.  Prepended to every script.
-- MINUTE and DAY, in ms, come from gate.py.
local PARTS = 60        -- a moving window is counted in parts; one that is half over counts whole, so it never lets more in
local ACCOUNT_S = 600   -- an account is read from the database again after this time
local HOLDS_S = 1814400 -- longer than a job can wait and run

local function account_key(name) return 'sluice:account:' .. name end
local function holds_key(name) return 'sluice:holds:' .. name end
-- Jobs that ended while the account was not known, and the newest value and version they told.
local function ended_key(name) return 'sluice:ended:' .. name end
-- When jobs were admitted whose ids are older than that: lines of batches have the time of their batch.
local function late_key(name) return 'sluice:late:' .. name end
local ON_ITS_WAY = 60000 -- ms in which an admitted job is in the database, or never will be

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local DIGITS = '0123456789abcdefghjkmnpqrstvwxyz'
-- The time part of ids made at this time: `shared.ids` in Lua.
local function id_of(ms)
  local id = ''
  for _ = 1, 10 do
    local digit = ms % 32
    id, ms = string.sub(DIGITS, digit + 1, digit + 1) .. id, (ms - digit) / 32
  end
  return id
end

local function whole(number) return string.format('%.0f', number) end
local function field(key, name) return tonumber(redis.call('HGET', key, name) or '0') end

-- A window: what was counted (requests, tokens) and when it ends or, if it has no end, when the oldest part leaves it.
-- `prefix` is 'm' or 'd'.  A new window begins with the first request counted.
local windows = {}

function windows.fixed_window(key, prefix, length, now)
  local found = redis.call('HMGET', key, prefix .. 's', prefix .. 'r', prefix .. 't')
  local start = tonumber(found[1] or '0')
  if start == 0 or now >= start + length or start > now then return {requests = 0, tokens = 0, reset = length} end
  return {start = start, requests = tonumber(found[2]), tokens = tonumber(found[3]), reset = start + length - now}
end

-- Two windows of the clock; the older one counts by the share of it that is less than a length ago.
function windows.sliding_window(key, prefix, length, now)
  local current, past = math.floor(now / length), 1 - (now % length) / length
  local start, r, t, pr, pt = field(key, prefix .. 's'), 0, 0, 0, 0
  if start == current then
    r, t = field(key, prefix .. 'r'), field(key, prefix .. 't')
    pr, pt = field(key, prefix .. 'pr'), field(key, prefix .. 'pt')
  elseif start == current - 1 then
    pr, pt = field(key, prefix .. 'r'), field(key, prefix .. 't')
  end
  return {
    start = current, current = {r, t, pr, pt}, reset = length - now % length,
    requests = r + math.ceil(pr * past), tokens = t + math.ceil(pt * past),
  }
end

-- Turn, requests and tokens of a part: 'turn:requests:tokens'; nil if there is none.
local function read_part(value)
  local turn, requests, tokens = string.match(value or '', '^(%d+):(%d+):(%d+)$')
  return tonumber(turn), tonumber(requests), tonumber(tokens)
end

-- Every part of the last length, each with the number of its turn.
function windows.moving_window(key, prefix, length, now)
  local part = math.floor(now / (length / PARTS))
  local found, oldest = {part = part, requests = 0, tokens = 0}, part
  local names = {}
  for i = 0, PARTS do names[i + 1] = prefix .. i end
  for _, value in ipairs(redis.call('HMGET', key, unpack(names))) do
    local turn, requests, tokens = read_part(value)
    if turn and turn >= part - PARTS and turn <= part then
      found.requests, found.tokens = found.requests + requests, found.tokens + tokens
      if turn == part then found.current = {requests, tokens} end
      oldest = math.min(oldest, turn)
    end
  end
  found.reset = (oldest + PARTS + 1) * (length / PARTS) - now
  return found
end

local count = {}

function count.fixed_window(key, prefix, window, requests, tokens, now)
  local start = window.start or now
  redis.call('HSET', key, prefix .. 's', whole(start), prefix .. 'r', whole(math.max(window.requests + requests, 0)),
    prefix .. 't', whole(math.max(window.tokens + tokens, 0)))
end

function count.sliding_window(key, prefix, window, requests, tokens)
  local r, t, pr, pt = unpack(window.current)
  redis.call('HSET', key, prefix .. 's', whole(window.start), prefix .. 'r', whole(math.max(r + requests, 0)),
    prefix .. 't', whole(math.max(t + tokens, 0)), prefix .. 'pr', whole(pr), prefix .. 'pt', whole(pt))
end

function count.moving_window(key, prefix, window, requests, tokens)
  local r, t = unpack(window.current or {0, 0})
  redis.call('HSET', key, prefix .. window.part % (PARTS + 1),
    whole(window.part) .. ':' .. whole(r + requests) .. ':' .. whole(t + tokens))
end

-- Take back what was counted at `admitted` from where it was counted; nothing if that has been forgotten.
local take_back = {}

function take_back.fixed_window(key, prefix, length, requests, tokens, admitted, now)
  local window = windows.fixed_window(key, prefix, length, now)
  if window.start and window.start <= admitted then count.fixed_window(key, prefix, window, -requests, -tokens, now) end
end

function take_back.sliding_window(key, prefix, length, requests, tokens, admitted, now)
  local window = windows.sliding_window(key, prefix, length, now)
  local age = window.start - math.floor(admitted / length)
  if age == 0 then
    count.sliding_window(key, prefix, window, -requests, -tokens)
  elseif age == 1 then
    local r, t, pr, pt = unpack(window.current)
    window.current = {r, t, math.max(pr - requests, 0), math.max(pt - tokens, 0)}
    count.sliding_window(key, prefix, window, 0, 0)
  end
end

function take_back.moving_window(key, prefix, length, requests, tokens, admitted)
  local part = math.floor(admitted / (length / PARTS))
  local name = prefix .. part % (PARTS + 1)
  local turn, r, t = read_part(redis.call('HGET', key, name))
  if turn == part then
    redis.call('HSET', key, name,
      whole(part) .. ':' .. whole(math.max(r - requests, 0)) .. ':' .. whole(math.max(t - tokens, 0)))
  end
end

local function windows_of(key, strategy, now)
  return windows[strategy](key, 'm', MINUTE, now), windows[strategy](key, 'd', DAY, now)
end

local function count_in(key, strategy, minute, day, requests, tokens, now)
  count[strategy](key, 'm', minute, requests, tokens, now)
  count[strategy](key, 'd', day, requests, tokens, now)
  if not (strategy == 'fixed_window' and minute.start and day.start) then redis.call('PEXPIRE', key, 2 * DAY) end
end
