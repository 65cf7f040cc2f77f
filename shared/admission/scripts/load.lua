-- load: tell what the database knows of an account.
-- ARGV     1 name   2 value   3 version of the value   4 seq that `admit` gave   5 jobs before this id cannot be on their
--          way to the database any more   6.. holds of unfinished jobs: id, amount
-- returns  1, or 0 if an administrator changed the account meanwhile: read it again
-- keeps    a value is never replaced by an older one; a hold belongs to a job that is unfinished or on its way
local name, holds = ARGV[1], holds_key(ARGV[1])
if (redis.call('HGET', holds, '#') or '0') ~= ARGV[4] then return 0 end
if redis.call('EXISTS', account_key(name)) == 1 then return 1 end  -- somebody else was quicker, and knows more by now
local ended, value, version = ended_key(name), ARGV[2], ARGV[3]
local newest = redis.call('HMGET', ended, 'v', 'n')
if newest[2] and tonumber(newest[2]) > tonumber(version) then value, version = newest[1], newest[2] end
redis.call('HSET', account_key(name), 'v', value, 'n', version)
redis.call('EXPIRE', account_key(name), ACCOUNT_S)

local open = {}
for i = 6, #ARGV, 2 do
  if redis.call('HEXISTS', ended, ARGV[i]) == 0 then open[ARGV[i]] = ARGV[i + 1] end
end
redis.call('DEL', ended)
local sum, jobs, admitted, oldest = 0, 0, {}, now_ms() - ON_ITS_WAY
local late = redis.call('HGETALL', late_key(name))
for i = 1, #late, 2 do
  if tonumber(late[i + 1]) >= oldest then admitted[late[i]] = true else redis.call('HDEL', late_key(name), late[i]) end
end
local found = redis.call('HGETALL', holds)
for i = 1, #found, 2 do
  local job, amount = found[i], found[i + 1]
  if job ~= '#' and job ~= '=' and job ~= '*' then
    if job < ARGV[5] and not open[job] and not admitted[job] then
      redis.call('HDEL', holds, job)
    else
      sum, jobs = sum + tonumber(amount), jobs + 1
      open[job] = nil
    end
  end
end
for job, amount in pairs(open) do
  redis.call('HSET', holds, job, amount)
  sum, jobs = sum + tonumber(amount), jobs + 1
end
redis.call('HSET', holds, '=', whole(sum), '*', whole(jobs), '#', ARGV[4])
redis.call('EXPIRE', holds, HOLDS_S)
return 1
