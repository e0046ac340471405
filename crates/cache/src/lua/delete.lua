-- Deletes an entry and the lease of a load under way, tells those who wait for it, and whether the entry was there.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- returns  1 it was there, 0 it was not
local lease = redis.pcall('GET', KEYS[2])
redis.call('UNLINK', KEYS[2])
if type(lease) == 'string' and string.sub(lease, 1, 1) == '1' then
  redis.pcall('PUBLISH', KEYS[2], '')
end
return redis.call('UNLINK', KEYS[1])
