-- fail: an attempt at a provider failed.
-- ARGV     1 provider   2 failures in a row that open the breaker   3 time they must span, ms   4 first pause ms
--          5 longest pause ms   6 pause the provider asked for, ms (0 = none)
-- returns  Unix ms until which nothing is sent there; 0 if it stays closed
-- keeps    only a success closes the breaker; a pause is made longer by an attempt after it, not by those that were on
--          their way when it began
local key, asked = 'sluice:provider:' .. ARGV[1] .. ':failures', tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local open = 'sluice:providers:open'
local till = tonumber(redis.call('ZSCORE', open, ARGV[1]) or '0')
if till > now then
  till = math.max(till, now + asked)
  redis.call('ZADD', open, till, ARGV[1])
  return till
end

local failures = redis.call('HINCRBY', key, 'count', 1)
redis.call('HSETNX', key, 'since', now)
redis.call('EXPIRE', key, 600)
redis.call('DEL', 'sluice:provider:' .. ARGV[1] .. ':probe')  -- the next attempt that may try it is that after the pause
local pause = asked
if till > 0 then  -- half-open: it is not well yet
  pause = math.max(asked, math.min(tonumber(redis.call('HGET', key, 'pause') or ARGV[4]) * 2, tonumber(ARGV[5])))
elseif failures >= tonumber(ARGV[2]) and now - redis.call('HGET', key, 'since') >= tonumber(ARGV[3]) then
  pause = math.max(asked, tonumber(ARGV[4]))
end
if pause == 0 then return 0 end
redis.call('HSET', key, 'pause', pause)
redis.call('ZADD', open, now + pause, ARGV[1])
redis.call('EXPIRE', open, 3600)
return now + pause
