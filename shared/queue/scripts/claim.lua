-- claim: lease up to `wanted` jobs to one worker.
-- KEYS     1 queue
-- ARGV     1 token of the worker   2 wanted   3 lease ms   4 slots per tenant (0 = no limit)   5.. weights: due, band 0, 1, ..
-- returns  {now ms, next score after now ('0' = none), id, score, tenant, payload ('' = lost), id, ..}
-- keeps    a job has at most one holder; every zone that has jobs gets its weight of each round; a tenant holds at
--          most its slots
local token, wanted, lease_ms, slots = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now, claimed, checked = now_ms(), {}, {}
local patience = 1000  -- entries one call may put aside before it lets Redis serve others

local zones = {}
for i = 1, #ARGV - 4 do
  local band, weight = i - 2, tonumber(ARGV[4 + i])
  local credit = math.min(weight, tonumber(redis.call('HGET', credits, i) or weight))
  if band < 0 then
    zones[i] = {low = DUE_FROM, high = now, weight = weight, credit = credit, open = true}
  else
    local low, high = band * BAND_WIDTH, '(' .. (band + 1) * BAND_WIDTH
    zones[i] = {low = low, high = high, weight = weight, credit = credit, open = true, band = band}
  end
end

-- Ids that were finished or taken over by a stock worker never left their slot: count only what is still queued.
local function recount(tenant)
  if checked[tenant] then return end
  checked[tenant] = true
  for _, id in ipairs(redis.call('SMEMBERS', running_key(tenant))) do
    if not redis.call('ZSCORE', queue, id) then redis.call('SREM', running_key(tenant), id) end
  end
end

local function has_slot(id, tenant)
  local running = running_key(tenant)
  if redis.call('SCARD', running) >= slots then recount(tenant) end
  return redis.call('SCARD', running) < slots
    or redis.call('SISMEMBER', running, id) == 1  -- its lease expired: the slot is still its own
    or redis.call('ZSCORE', 'arq:abort', id)      -- it must start to learn that it is aborted
end

local function take(zone, id, score)
  local tenant = redis.call('HGET', tenants, id) or ''
  if slots > 0 and tenant ~= '' then
    if not has_slot(id, tenant) then
      redis.call('ZADD', parked_key(tenant), score, id)
      redis.call('SADD', parked_tenants, tenant)
      redis.call('ZADD', queue, PARKED_FROM + tonumber(score), id)
      return false
    end
    redis.call('SADD', running_key(tenant), id)
  end
  lease(id, token, now + lease_ms, lease_ms)
  if zone.band then
    local tag = tonumber(score) - zone.low
    if tag > tonumber(redis.call('HGET', clock, zone.band) or '0') then redis.call('HSET', clock, zone.band, tag) end
  end
  local n = #claimed
  claimed[n + 1], claimed[n + 2], claimed[n + 3] = id, score, tenant
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

local function serve_round()
  local open, spent = false, true
  for _, zone in ipairs(zones) do
    if zone.open and zone.credit > 0 and wanted > 0 then serve(zone, math.min(zone.credit, wanted)) end
    open = open or zone.open
    spent = spent and not (zone.open and zone.credit > 0)
  end
  if spent then
    for _, zone in ipairs(zones) do zone.credit = zone.weight end
  end
  return open
end

while wanted > 0 and patience > 0 and serve_round() do end
for i, zone in ipairs(zones) do redis.call('HSET', credits, i, zone.credit) end
if wanted > 0 and patience > 0 and redis.call('EXISTS', parked_tenants) == 0 then
  redis.call('DEL', clock, tags)  -- nothing is ready: fair time starts anew
end
if redis.call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, 1)[1] then ring() end  -- wake the next idle worker
local upcoming = redis.call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {now, upcoming[2] or '0', unpack(claimed)}
