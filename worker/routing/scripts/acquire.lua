-- acquire: take a slot at one of these providers.
-- ARGV     1 token of the attempt   2 lease ms   3 'first' | 'least'   4.. candidates in the order of preference:
--          id, most attempts at once ('' = any number)
-- returns  the id that was taken, '' if none has room
-- keeps    never more attempts at a provider than its limit; a slot whose worker died is free after its lease
local token, lease_ms, mode = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local best, least = '', nil
for i = 4, #ARGV, 2 do
  local id, limit = ARGV[i], tonumber(ARGV[i + 1])
  local key = 'sluice:provider:' .. id .. ':running'
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local running = redis.call('ZCARD', key)
  if not limit or running < limit then
    local load = limit and running / limit or running
    if not least or load < least then best, least = id, load end
    if mode == 'first' then break end
  end
end
if best ~= '' then
  local key = 'sluice:provider:' .. best .. ':running'
  redis.call('ZADD', key, now + lease_ms, token)
  redis.call('PEXPIRE', key, lease_ms)
end
return best
