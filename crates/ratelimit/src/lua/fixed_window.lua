-- Decides by a count that expires: reads, compares and adds, and gives the first of a window its time to live, which no
-- command does at once.
--
-- KEYS[1]  count: string, how many passed; expires when the window ends
-- ARGV[1]  milliseconds that a window lasts
-- ARGV[2]  how many may pass within it
-- ARGV[3]  how many ask
-- ARGV[4]  1 consumes, 0 only looks
-- returns  microseconds until as many would pass, 0 when they do; how many are counted; microseconds until none is; the
--          server's clock in microseconds since 1970. An error NOTOURS when the key holds no count
local window, limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local consumes = ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- The last millisecond of a window that begins now, by the clock that was read: the one that lives count from may be behind it.
local last = string.format('%.0f', math.floor(now / 1000) + window)
local stored = redis.call('GET', KEYS[1])
if stored and stored ~= '0' and not string.find(stored, '^[1-9]%d*$') then
  return redis.error_reply('-NOTOURS the key holds no count')
end
-- What is greater is exact no longer, and above every limit.
local used = math.min(tonumber(stored or 0), 9007199254740992)

local left = window
if stored then
  left = redis.call('PTTL', KEYS[1])
  -- Without an end, because another program wrote it; or with one too far away, because the clock was set back or the quota
  -- had a longer period: nobody waits for longer than a window.
  if left < 0 or left > window then
    left = window
    if consumes then redis.call('PEXPIREAT', KEYS[1], last) end
  end
end

-- A key is there through its last millisecond.
local ends = (left + 1) * 1000
local wait = 0
if used + cost > limit then
  wait = ends
elseif consumes then
  if stored then
    redis.call('INCRBY', KEYS[1], ARGV[3])
  else
    redis.call('SET', KEYS[1], ARGV[3], 'PXAT', last)
  end
  used = used + cost
end
return {wait, used, used > 0 and ends or 0, now}
