-- settle: a job has ended, or was refused after all: release what it held, correct what was counted.
-- ARGV     1 job id   2 key of the counters ('' = none)   3 strategy   4 when it was admitted, ms   5 requests to add
--          6 tokens to add   7.. accounts: name, value ('' = unchanged, '?' = not known), version
-- keeps    a value is never replaced by an older one; what is taken back is taken from the window that counted it
local job, key, strategy, admitted = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local requests, tokens, now = tonumber(ARGV[5]), tonumber(ARGV[6]), now_ms()

if key ~= '' and (requests ~= 0 or tokens ~= 0) then
  local function correct(prefix, length)
    if requests < 0 or tokens < 0 then
      take_back[strategy](key, prefix, length, -requests, -tokens, admitted, now)
    else
      count[strategy](key, prefix, windows[strategy](key, prefix, length, now), requests, tokens, now)
    end
  end
  correct('m', MINUTE)
  correct('d', DAY)
  redis.call('PEXPIRE', key, 2 * DAY)
end

for i = 7, #ARGV, 3 do
  local name, value, version = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local holds, account = holds_key(name), account_key(name)
  local amount = redis.call('HGET', holds, job)
  if amount then
    redis.call('HDEL', holds, job)
    redis.call('HSET', holds, '=', whole(math.max(field(holds, '=') - amount, 0)), '*',
      whole(math.max(field(holds, '*') - 1, 0)))
  end
  if amount and value == '?' then redis.call('DEL', account) end  -- it would have more left than there is
  if amount or value ~= '' then redis.call('HINCRBY', holds, '#', 1) end
  local known = redis.call('HGET', account, 'n')
  if tonumber(value) and known and version > tonumber(known) then redis.call('HSET', account, 'v', value, 'n', version) end
  redis.call('EXPIRE', holds, HOLDS_S)
end
return 1
