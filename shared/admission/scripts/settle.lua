-- settle: a job has ended, or was refused after all: release what it held, correct what was counted.
-- ARGV     1 job id   2 key of the counters ('' = none)   3 strategy   4 when it was admitted, ms   5 requests to add
--          6 tokens to add   7.. accounts: name, value ('' = unchanged, '?' = not known), version
-- keeps    a value is never replaced by an older one; what is taken back is taken from the window that counted it;
--          an account can be read while its jobs end
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
  local holds, account, ended = holds_key(name), account_key(name), ended_key(name)
  local amount, sum, jobs = unpack(redis.call('HMGET', holds, job, '=', '*'))
  if amount then
    redis.call('HDEL', holds, job)
    redis.call('HSET', holds, '=', whole(math.max(sum - amount, 0)), '*', whole(math.max(jobs - 1, 0)))
  end
  if amount and value == '?' then  -- what is known of the account, or being read, is from before the charge
    redis.call('DEL', account)
    redis.call('HINCRBY', holds, '#', 1)
  end
  local known = redis.call('HGET', account, 'n')
  if not known then  -- somebody may be reading it, and have seen the job unfinished
    redis.call('HSET', ended, job, 1)
    redis.call('EXPIRE', ended, ACCOUNT_S)
    account, known = ended, redis.call('HGET', ended, 'n') or '-1'
  end
  if tonumber(value) and version > tonumber(known) then redis.call('HSET', account, 'v', value, 'n', version) end
end
return 1
