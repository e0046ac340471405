-- Reads a lock, what is left of its lease, how many wait and the server's clock, all of one moment, without its token.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  queue: sorted set of who waits
-- returns  {{the fence, milliseconds left, how many wait, the server's time in milliseconds}, holder}, or nothing
local left = redis.call('PTTL', KEYS[1])
if left == -2 then
  return false
end
local value = redis.call('GET', KEYS[1])
local fence = #value >= 24 and struct.unpack('>I8', value) or 0
-- What another program wrote has none.
if fence < 0 or fence > 9007199254740991 then
  fence = 0
end
local time = redis.call('TIME')
return {{fence, left, redis.call('ZCARD', KEYS[2]), time[1] * 1000 + math.floor(time[2] / 1000)}, string.sub(value, 25)}
