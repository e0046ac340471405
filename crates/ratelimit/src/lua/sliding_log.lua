-- Decides by the moments at which requests passed: counts, compares, adds and forgets, which no command does at once.
--
-- KEYS[1]  log: sorted set, a member for each that passed, scored by its moment in microseconds since 1970; expires when the
--          last one leaves the window
-- ARGV[1]  microseconds that the window reaches back
-- ARGV[2]  how many may pass within it
-- ARGV[3]  how many ask
-- ARGV[4]  1 consumes, 0 only looks
-- ARGV[5]  random bytes that no other call has
-- returns  microseconds until as many would pass, 0 when they do; how many are counted; microseconds until none is; the
--          server's clock in microseconds since 1970
local window, limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local consumes = ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_text = string.format('%.0f', now)
local past = string.format('%.0f', now - window)
local since = '(' .. past

-- Microseconds until an entry has left the window, given its score.
local function until_gone(score)
  return math.ceil(math.min(tonumber(score), now) + window - now)
end

local used = redis.call('ZCOUNT', KEYS[1], since, '+inf')
local newest
if used > 0 then
  newest = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', since, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  -- A clock that was set back: nobody waits for longer than the window. This has to be stored, for otherwise these entries stay
  -- as far away as they were.
  if consumes and tonumber(newest) > now then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_text, '+inf')) do
      redis.call('ZADD', KEYS[1], now_text, member)
    end
  end
end

local wait = 0
if used + cost > limit then
  -- Once this one has left, the others leave enough room.
  local last = used + cost - limit - 1
  wait = until_gone(redis.call('ZRANGEBYSCORE', KEYS[1], since, '+inf', 'WITHSCORES', 'LIMIT', last, 1)[2])
elseif consumes then
  -- Before anything is removed: a server without memory refuses what adds only while a script has written nothing.
  local entries = {}
  for n = 1, cost do
    entries[#entries + 1] = now_text
    entries[#entries + 1] = ARGV[5] .. n
    -- A call takes only so many arguments.
    if n % 1000 == 0 or n == cost then
      redis.call('ZADD', KEYS[1], unpack(entries))
      entries = {}
    end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', past)
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.ceil((now + window) / 1000)))
  used, newest = used + cost, now
end
return {wait, used, newest and until_gone(newest) or 0, now}
