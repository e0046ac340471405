-- Reads a lock, what is left of its lease and the server's clock, all of one moment, without its token.
--
-- KEYS[1]  lock: hash, expires with its lease
-- returns  {holder, fence, at in milliseconds, {milliseconds left, the server's time in milliseconds}}, or nothing
local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  return false
end
local found = redis.call('HMGET', KEYS[1], 'holder', 'fence', 'at')
local time = redis.call('TIME')
return {found[1], found[2], found[3], {left, time[1] * 1000 + math.floor(time[2] / 1000)}}
