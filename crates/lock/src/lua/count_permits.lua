-- Counts the permits that are out by the server's clock, which ZCOUNT alone has to be told.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- returns  how many are out
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf')
