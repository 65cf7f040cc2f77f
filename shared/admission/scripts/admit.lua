-- admit: count one request and hold what it may cost, or change nothing.
-- ARGV     1 id of a new job   2 key of the counters ('' = none)   3 strategy   4 tokens   5..8 rpm, rpd, tpm, tpd ('' = no limit)
--          9.. accounts: name, kind (money | carbon | queue), amount, limit, other limit
--          money: amount is held, or what is left if that is less; carbon: limit is the budget, amount must fit in;
--          queue: limit jobs at most ('' = any), other limit tokens at most
-- returns  {'load', {name, seq, ms since counting began, ..}}   these accounts must be read from the database first
--          {'ok' | 'budget' | 'carbon' | 'queue' | 'rpm' | 'rpd' | 'tpm' | 'tpd',
--           {left of each account after this}, {money held, now ms}, {used, reset ms of rpm, rpd, tpm, tpd}}
-- keeps    a refused request leaves no trace; what is held never exceeds what is left; a job that is admitted again, since
--          nobody stored what came of it, holds and counts once
local job, key, strategy, tokens = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local now = now_ms()

local accounts, missing, is_again = {}, {}, false
for i = 9, #ARGV, 5 do
  local name = ARGV[i]
  local account = {
    name = name, kind = ARGV[i + 1], amount = tonumber(ARGV[i + 2]),
    limit = tonumber(ARGV[i + 3]), other = tonumber(ARGV[i + 4]),
  }
  local value = redis.call('HGET', account_key(name), 'v')
  if value then
    local held = redis.call('HMGET', holds_key(name), '=', '*', job)
    account.held, account.jobs = tonumber(held[1] or '0'), tonumber(held[2] or '0')
    if held[3] then
      is_again, account.held, account.jobs = true, account.held - held[3], account.jobs - 1
    end
    if account.kind == 'money' then account.left = tonumber(value) - account.held end
    if account.kind == 'carbon' then account.left = account.limit - tonumber(value) - account.held end
    if account.kind == 'queue' then account.left = (account.limit or 0) - account.jobs end
    accounts[#accounts + 1] = account
  else
    redis.call('SET', 'sluice:admission:since', whole(now), 'NX', 'EX', 30 * 86400)
    local since = tonumber(redis.call('GET', 'sluice:admission:since'))
    missing[#missing + 1] = name
    missing[#missing + 1] = redis.call('HGET', holds_key(name), '#') or '0'
    missing[#missing + 1] = now - since
  end
end
if #missing > 0 then return {'load', missing} end

local verdict, granted = 'ok', nil
for _, account in ipairs(accounts) do
  if account.kind == 'money' then
    if account.left <= 0 and verdict == 'ok' then verdict = 'budget' end
    granted = math.min(granted or account.amount, math.max(account.left, 0))
  end
end
for _, account in ipairs(accounts) do
  if account.kind == 'carbon' and account.amount > account.left and verdict == 'ok' then verdict = 'carbon' end
end

local minute, day
local used = {}
if key ~= '' then
  minute, day = windows_of(key, strategy, now)
  local one = is_again and 0 or 1
  tokens = tokens * one
  local asked = {
    {'rpm', tonumber(ARGV[5]), minute.requests, one, minute}, {'rpd', tonumber(ARGV[6]), day.requests, one, day},
    {'tpm', tonumber(ARGV[7]), minute.tokens, tokens, minute}, {'tpd', tonumber(ARGV[8]), day.tokens, tokens, day},
  }
  for _, one in ipairs(asked) do
    local name, limit, before, cost, window = unpack(one)
    if limit and before + cost > limit and verdict == 'ok' then verdict = name end
    used[#used + 1] = before
    used[#used + 1] = math.ceil(window.reset)
  end
end

for _, account in ipairs(accounts) do
  if account.kind == 'queue' and verdict == 'ok' then
    local is_full = (account.limit and account.jobs + 1 > account.limit)
      or (account.other and account.held + account.amount > account.other)
    if is_full then verdict = 'queue' end
  end
end

if verdict == 'ok' then
  if key ~= '' and not is_again then
    count_in(key, strategy, minute, day, 1, tokens, now)
    used[1], used[3], used[5], used[7] = used[1] + 1, used[3] + 1, used[5] + tokens, used[7] + tokens
  end
  local is_late = job < id_of(now - ON_ITS_WAY)
  for _, account in ipairs(accounts) do
    local amount = account.kind == 'money' and granted or account.amount
    redis.call('HSET', holds_key(account.name), job, whole(amount), '=', whole(account.held + amount), '*',
      whole(account.jobs + 1))
    if account.jobs == 0 then redis.call('EXPIRE', holds_key(account.name), HOLDS_S) end
    if is_late then
      redis.call('HSET', late_key(account.name), job, whole(now))
      redis.call('EXPIRE', late_key(account.name), ACCOUNT_S)
    end
    account.left = account.left - (account.kind == 'queue' and 1 or amount)
  end
end
local left = {}
for i, account in ipairs(accounts) do left[i] = account.left end
return {verdict, left, {granted or 0, now}, used}
