-- prelude: names, time, and the moves that more than one script makes.  Prepended to every script.
-- BAND_WIDTH, DUE_FROM, PARKED_FROM and FIRST_TAG come from keys.py, which explains the layout.
-- Only the queue is passed as a key; the rest derives from it, so the scripts need a single primary, as arq does.
local queue = KEYS[1]
local clock, tags, credits = queue .. ':clock', queue .. ':tags', queue .. ':credit'
local places, epoch_key = queue .. ':places', queue .. ':epoch'
local parked_groups = queue .. ':parked'
local workers, alive, total_slots = queue .. ':workers', queue .. ':alive', queue .. ':slots'
local busy, caps = queue .. ':busy', queue .. ':caps'

local function payload_key(id) return 'arq:job:' .. id end
local function lease_key(id) return 'arq:in-progress:' .. id end
local function result_key(id) return 'arq:result:' .. id end
local function try_key(id) return 'arq:retry:' .. id end
local function running_key(group) return queue .. ':running:' .. group end
local function parked_key(group) return queue .. ':parked:' .. group end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Tell one idle worker that there is work; saying it twice is saying it once.
local function ring()
  redis.call('ZADD', queue .. ':wake', 0, '0')
end

-- Band of a job, and the group whose slots it uses ('' = none).  A job of a stock arq producer has no place.
local function place_of(id)
  local band, group = string.match(redis.call('HGET', places, id) or '0:', '^(%d+):(.*)$')
  return tonumber(band), group
end

-- Where the next job of a band is taken from: a job put there is before all that come later.
local function head_of(band)
  return band * BAND_WIDTH + tonumber(redis.call('HGET', clock, band) or FIRST_TAG)
end

-- Start-time fair queueing: the score of the next job of this tenant in this band.
local function fair_score(band, tenant, cost, head_start)
  local band_clock = tonumber(redis.call('HGET', clock, band) or FIRST_TAG)
  local function next_tag(field)
    local tag = math.max(band_clock, tonumber(redis.call('HGET', tags, field) or '0'))
    tag = math.min(tag, BAND_WIDTH - 1)  -- whatever was charged, a job stays in its band
    redis.call('HSET', tags, field, tag + cost)
    return tag
  end
  local field = band .. ':' .. tenant
  local tag = next_tag(field)
  if head_start > 0 then tag = next_tag(field .. ':' .. head_start) end  -- a sequence of its own, paid by both
  return band * BAND_WIDTH + math.max(tag - head_start, 0)
end

-- Name the holder of a job; from now on its score is the deadline of the lease.
local function lease(id, holder, deadline, lease_ms)
  redis.call('SET', lease_key(id), holder, 'PX', lease_ms)
  redis.call('ZADD', queue, deadline, id)
end

-- True if Redis lost its data since the caller learnt `epoch`.
local function is_wiped(epoch)
  return epoch ~= '' and redis.call('GET', epoch_key) ~= epoch
end

-- True if `token` may decide about the job: it holds the lease, or Redis forgot all leases and nobody took this one.
local function is_holder(id, token, epoch)
  local holder = redis.call('GET', lease_key(id))
  return holder == token or (not holder and is_wiped(epoch))
end

-- There is room for the group: make its parked job with the lowest score ready again; false if it has none.
local function unpark(group)
  while true do
    local entry = redis.call('ZPOPMIN', parked_key(group))
    if not entry[1] then
      redis.call('SREM', parked_groups, group)
      return false
    end
    local id, score = entry[1], tonumber(entry[2])
    local current = tonumber(redis.call('ZSCORE', queue, id) or '0')
    if current >= PARKED_FROM then
      -- time went on while it was parked: it must not overtake those that waited
      redis.call('ZADD', queue, math.max(score, head_of(math.floor(score / BAND_WIDTH))), id)
      ring()
      return true
    end
  end
end

-- The job uses no slot any more.
local function leave_slot(id)
  redis.call('SREM', busy, id)
  local _, group = place_of(id)
  if group ~= '' and redis.call('SREM', running_key(group), id) == 1 then
    unpark(group)
    local base = string.match(group, '^(.-)%+?$')
    if redis.call('HEXISTS', caps, base) == 1 then  -- the room is also the other half's
      unpark(group == base and base .. '+' or base)
    end
  end
end

-- Add up the slots of all workers that are alive.
local function count_slots(now)
  for _, token in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
    redis.call('ZREM', alive, token)
    redis.call('HDEL', workers, token)
  end
  local total = 0
  for _, slots in ipairs(redis.call('HVALS', workers)) do total = total + tonumber(slots) end
  redis.call('SET', total_slots, total)
end

-- Remove every trace of a job but its result.
local function forget(id)
  redis.call('DEL', payload_key(id), try_key(id))
  redis.call('ZREM', 'arq:abort', id)
  redis.call('ZREM', queue, id)
  leave_slot(id)
  redis.call('HDEL', places, id)
end

-- Store the result for `lifetime_ms` ('' = for ever); an empty result is not stored.
local function keep_result(id, result, lifetime_ms)
  if result == '' then return end
  if lifetime_ms == '' then
    redis.call('SET', result_key(id), result)
  else
    redis.call('SET', result_key(id), result, 'PX', lifetime_ms)
  end
end
