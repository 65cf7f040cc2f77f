-- claim: lease up to `wanted` jobs to one worker.
-- KEYS     1 queue
-- ARGV     1 token of the worker   2 wanted   3 lease ms   4 slots of the worker   5 share (0 = no limit)
--          6 how many of the wanted may be of bands below the first   7 cap of groups that have none of their own (0 = no
--          limit)   8.. weights: band 0, band 1, ..
-- returns  {now ms, next score after now ('0' = none), 1 if jobs are ready that were not claimed,
--          id, score, place, payload ('' = lost), id, ..}
-- keeps    a job has at most one holder; every band that has jobs gets its weight of each round; a group takes a slot
--          only while it has fewer than `share` times those that are free in all workers
local token, wanted, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local share, later, any_cap = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local now, claimed = now_ms(), {}
local patience = 1000  -- entries one call may put aside before it lets Redis serve others
local total = math.max(tonumber(redis.call('GET', total_slots) or '0'), tonumber(ARGV[4]))

local zones = {}
for i = 1, #ARGV - 7 do
  local band, weight = i - 1, tonumber(ARGV[7 + i])
  local credit = math.min(weight, tonumber(redis.call('HGET', credits, i) or weight))
  local low, high = band * BAND_WIDTH, '(' .. (band + 1) * BAND_WIDTH
  zones[i] = {low = low, high = high, weight = weight, credit = credit, open = true, band = band}
end

-- Ids that were finished or taken over by a stock worker never left their slot: count only what is still queued.
local function recount(key)
  if not redis.call('SET', key .. ':counted', 1, 'NX', 'PX', 1000) then return end
  for _, id in ipairs(redis.call('SMEMBERS', key)) do
    if not redis.call('ZSCORE', queue, id) then redis.call('SREM', key, id) end
  end
end

if redis.call('SCARD', busy) >= total then recount(busy) end

-- Slots the group may take below its cap, which it has together with its jobs that can wait.
local function room_below_cap(group)
  local base = string.match(group, '^(.-)%+?$')
  local cap = tonumber(redis.call('HGET', caps, base) or (any_cap > 0 and any_cap or ''))
  if not cap then return wanted end
  local function running() return redis.call('SCARD', running_key(base)) + redis.call('SCARD', running_key(base .. '+')) end
  if running() >= cap then
    recount(running_key(base))
    recount(running_key(base .. '+'))
  end
  return cap - running()
end

-- Slots the group may take now.  The more are free, the more it gets; the last ones are for somebody else.
local function room(group)
  local below_cap = room_below_cap(group)
  if share == 0 or below_cap <= 0 then return below_cap end
  local most = math.max(1, math.floor(share * (total - redis.call('SCARD', busy))))
  if redis.call('SCARD', running_key(group)) >= most then recount(running_key(group)) end
  return math.min(most - redis.call('SCARD', running_key(group)), below_cap)
end

local function has_slot(id, group)
  return room(group) > 0
    or redis.call('SISMEMBER', running_key(group), id) == 1  -- its lease expired: the slot is still its own
    or redis.call('ZSCORE', 'arq:abort', id)                 -- it must start to learn that it is aborted
end

local function take(zone, id, score)
  local _, group = place_of(id)
  if group ~= '' then
    if not has_slot(id, group) then
      redis.call('ZADD', parked_key(group), score, id)
      redis.call('SADD', parked_groups, group)
      redis.call('ZADD', queue, PARKED_FROM + tonumber(score), id)
      return false
    end
    redis.call('SADD', running_key(group), id)
  end
  redis.call('SADD', busy, id)
  lease(id, token, now + lease_ms, lease_ms)
  local tag = tonumber(score) - zone.low
  if tag > tonumber(redis.call('HGET', clock, zone.band) or FIRST_TAG) then redis.call('HSET', clock, zone.band, tag) end
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, score, redis.call('HGET', places, id) or '0:'
  claimed[n + 4] = redis.call('GET', payload_key(id)) or ''
  return true
end

-- A late duplicate of a cron job that has run, or a lease whose score Job.abort() moved; true if there was a holder.
local function is_held(id)
  local holder = redis.call('GET', lease_key(id))
  if not holder then return false end
  if holder == 'done' then
    forget(id)
  else
    local left = redis.call('PTTL', lease_key(id))  -- 0 in its last millisecond, -1 if it never ends
    redis.call('ZADD', queue, now + (left < 0 and lease_ms or math.max(left, 1)), id)
  end
  return true
end

-- What is due (retry, deferred job, expired lease) goes to the head of its band.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue, DUE_FROM, now, 'LIMIT', 0, patience)) do
  if not is_held(id) then redis.call('ZADD', queue, head_of((place_of(id))), id) end
  patience = patience - 1
end

local function serve(zone, limit)
  local got = 0
  while got < limit and patience > 0 do
    local entries = redis.call('ZRANGEBYSCORE', queue, zone.low, zone.high, 'WITHSCORES', 'LIMIT', 0, limit - got)
    if #entries == 0 then break end
    for i = 1, #entries, 2 do  -- every entry looked at leaves the zone
      if not is_held(entries[i]) and take(zone, entries[i], entries[i + 1]) then
        got = got + 1
      else
        patience = patience - 1
      end
    end
  end
  zone.open = got == limit
  zone.credit = zone.credit - got
  wanted = wanted - got
  if zone.band > 0 then later = later - got end
end

local function serve_round()
  local open, spent = false, true
  for _, zone in ipairs(zones) do
    if zone.open and zone.credit > 0 and wanted > 0 then
      local limit = math.min(zone.credit, wanted, zone.band > 0 and later or wanted)
      if limit > 0 then serve(zone, limit) else zone.open = false end
    end
    open = open or zone.open
    spent = spent and not (zone.open and zone.credit > 0)
  end
  if spent then
    for _, zone in ipairs(zones) do zone.credit = zone.weight end
  end
  return open
end

-- Others have ended, so there may be room for groups that have parked jobs.
local function unpark_some()
  local found = false
  for _, group in ipairs(redis.call('SRANDMEMBER', parked_groups, 8)) do
    for _ = 1, math.min(room(group), wanted) do
      if not unpark(group) then break end
      found = true
    end
  end
  if found then
    for _, zone in ipairs(zones) do zone.open = true end
  end
  return found
end

while wanted > 0 and patience > 0 and serve_round() do end
if wanted > 0 and patience > 0 and unpark_some() then
  while wanted > 0 and patience > 0 and serve_round() do end
end
for i, zone in ipairs(zones) do redis.call('HSET', credits, i, zone.credit) end
local is_ready = redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, 1)[1]
if is_ready then
  if #claimed > 0 or wanted == 0 or patience <= 0 then ring() end  -- wake the next idle worker
elseif redis.call('EXISTS', parked_groups) == 0 then
  redis.call('DEL', clock, tags)  -- nothing is ready: fair time starts anew
end
local upcoming = redis.call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {now, upcoming[2] or '0', is_ready and 1 or 0, unpack(claimed)}
