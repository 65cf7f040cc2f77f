-- fail: an attempt at a provider failed.
-- ARGV     1 provider   2 failures in a row that open the breaker   3 first pause ms   4 longest pause ms
--          5 pause the provider asked for, ms (0 = none)
-- returns  Unix ms until which nothing is sent there; 0 if it stays closed
-- keeps    only a success closes the breaker; it counts down no failures by itself for ten minutes
local key = 'sluice:provider:' .. ARGV[1] .. ':failures'
local failures, asked = redis.call('INCR', key), tonumber(ARGV[5])
redis.call('EXPIRE', key, 600)
local over = failures - tonumber(ARGV[2])
if over < 0 and asked == 0 then return 0 end
local pause = math.min(tonumber(ARGV[3]) * 2 ^ math.min(math.max(over, 0), 20), tonumber(ARGV[4]))
if asked > 0 then pause = over < 0 and asked or math.max(asked, pause) end
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + pause
redis.call('ZADD', 'sluice:providers:open', till, ARGV[1])
redis.call('EXPIRE', 'sluice:providers:open', 3600)
return till
