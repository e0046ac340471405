-- Gives a permit back, and says whether its lease had ended by the server's clock, which ZREM does not know.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- ARGV[1]  token
-- returns  1 released, 0 the token had none any more
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not own then
  return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
if tonumber(own) > now then
  return 1
end
return 0
