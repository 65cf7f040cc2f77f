-- claim: lease up to `wanted` jobs to one worker.
-- KEYS     1 queue
-- ARGV     1 token of the worker   2 wanted   3 lease ms   4 share (0 = no limit)   5 reserve   6.. weights: due, band 0, ..
-- returns  {now ms, next score after now ('0' = none), 1 if jobs are ready that were not claimed, id, score, group, payload ('' = lost), id, ..}
-- keeps    a job has at most one holder; every zone that has jobs gets its weight of each round; a group takes a slot
--          only while it has fewer than `share` times those that are free in all workers; bands below the first
--          leave `reserve` of the wanted jobs to it
local token, wanted, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local share, reserve = tonumber(ARGV[4]), tonumber(ARGV[5])
local now, claimed, checked = now_ms(), {}, {}
local patience = 1000  -- entries one call may put aside before it lets Redis serve others
local total = share > 0 and tonumber(redis.call('GET', total_slots) or '0') or 0
local busy = total > 0 and redis.call('ZCOUNT', queue, '(' .. now, now + lease_ms) or 0

local zones = {}
for i = 1, #ARGV - 5 do
  local band, weight = i - 2, tonumber(ARGV[5 + i])
  local credit = math.min(weight, tonumber(redis.call('HGET', credits, i) or weight))
  if band < 0 then
    zones[i] = {low = DUE_FROM, high = now, weight = weight, credit = credit, open = true}
  else
    local low, high = band * BAND_WIDTH, '(' .. (band + 1) * BAND_WIDTH
    zones[i] = {low = low, high = high, weight = weight, credit = credit, open = true, band = band}
  end
end

-- Ids that were finished or taken over by a stock worker never left their slot: count only what is still queued.
local function recount(group)
  if checked[group] or not redis.call('SET', running_key(group) .. ':counted', 1, 'NX', 'PX', 1000) then return end
  checked[group] = true
  for _, id in ipairs(redis.call('SMEMBERS', running_key(group))) do
    if not redis.call('ZSCORE', queue, id) then redis.call('SREM', running_key(group), id) end
  end
end

-- Slots the group may take now.  The more are free, the more it gets; the last ones are for somebody else.
local function room(group)
  local most = math.max(1, math.floor(share * (total - busy)))
  if redis.call('SCARD', running_key(group)) >= most then recount(group) end
  return most - redis.call('SCARD', running_key(group))
end

local function has_slot(id, group)
  return room(group) > 0
    or redis.call('SISMEMBER', running_key(group), id) == 1  -- its lease expired: the slot is still its own
    or redis.call('ZSCORE', 'arq:abort', id)                 -- it must start to learn that it is aborted
end

local function take(zone, id, score)
  local group = redis.call('HGET', groups, id) or ''
  if group ~= '' then
    if total > 0 and not has_slot(id, group) then
      redis.call('ZADD', parked_key(group), score, id)
      redis.call('SADD', parked_groups, group)
      redis.call('ZADD', queue, PARKED_FROM + tonumber(score), id)
      return false
    end
    redis.call('SADD', running_key(group), id)
  end
  busy = busy + 1
  lease(id, token, now + lease_ms, lease_ms)
  if zone.band then
    local tag = tonumber(score) - zone.low
    if tag > tonumber(redis.call('HGET', clock, zone.band) or '0') then redis.call('HSET', clock, zone.band, tag) end
  end
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, score, group
  claimed[n + 4] = redis.call('GET', payload_key(id)) or ''
  return true
end

-- Every entry looked at leaves the zone: leased, parked, restored or dropped.
local function visit(zone, id, score)
  local holder = redis.call('GET', lease_key(id))
  if not holder then return take(zone, id, score) end
  if holder == 'done' then  -- late duplicate of a cron job that has run
    forget(id)
  else  -- leased: Job.abort() moved the score; put the deadline back
    local left = redis.call('PTTL', lease_key(id))  -- 0 in its last millisecond, -1 if it never ends
    redis.call('ZADD', queue, now + (left < 0 and lease_ms or math.max(left, 1)), id)
  end
  return false
end

local function serve(zone, limit)
  local got = 0
  while got < limit and patience > 0 do
    local entries = redis.call('ZRANGEBYSCORE', queue, zone.low, zone.high, 'WITHSCORES', 'LIMIT', 0, limit - got)
    if #entries == 0 then break end
    for i = 1, #entries, 2 do
      if visit(zone, entries[i], entries[i + 1]) then got = got + 1 else patience = patience - 1 end
    end
  end
  zone.open = got == limit
  zone.credit = zone.credit - got
  wanted = wanted - got
end

-- Jobs a zone may still give.
local function allowance(zone)
  return math.min(zone.credit, (zone.band or 0) > 0 and wanted - reserve or wanted)
end

local function serve_round()
  local open, spent = false, true
  for _, zone in ipairs(zones) do
    if zone.open and zone.credit > 0 and wanted > 0 then
      local limit = allowance(zone)
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
    for _ = 1, math.min(total > 0 and room(group) or wanted, wanted) do
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
if wanted > reserve and patience > 0 and unpark_some() then
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
