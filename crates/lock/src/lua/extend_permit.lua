-- Gives a permit a new lease if its own has not ended by the server's clock, which no command compares.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- returns  1 extended, 0 the token has none any more
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not (own and tonumber(own) > now) then
  return 0
end
-- Removed first: behind a write, the server takes the new end also when its memory is full.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
-- Another program's member may never end, and 2^53 is as far as numbers go here.
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(last[2], 9007199254740991)))
return 1
