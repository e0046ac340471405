-- Takes a lock that is free and numbers it: no command compares, counts and looks at the clock at once. Asked again by the
-- token that has it, it answers the same.
--
-- KEYS[1]  lock: hash of token, fence, holder, at; expires with its lease
-- KEYS[2]  fence: hash of last and released; expires after its memory
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  holder
-- ARGV[4]  life of the fence in milliseconds
-- returns  the fence, a number; nothing when another token has the lock
local held = redis.call('HMGET', KEYS[1], 'token', 'fence')
if held[1] == ARGV[1] then
  return tonumber(held[2])
end
-- Whatever else is there, from another program too, is not free.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fence = now
local last = tonumber(redis.call('HGET', KEYS[2], 'last') or '')
-- Beyond 2^53 a number has no successor here.
if last and last >= now and last < 9007199254740991 then
  fence = last + 1
end
redis.call('HSET', KEYS[2], 'last', string.format('%.0f', fence))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'fence', string.format('%.0f', fence), 'holder', ARGV[3],
  'at', string.format('%.0f', math.floor(now / 1000)))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return fence
