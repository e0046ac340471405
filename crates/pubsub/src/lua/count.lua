-- Counts the members whose lease has not ended, by the server's clock.
--
-- KEYS[1]  leases: sorted set of members by the end of their lease in milliseconds
-- returns  how many
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf')
