-- Deletes an entry and the lease of loads under way, and tells whether the entry was there, apart from the lease.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- returns  1 it was there, 0 it was not
redis.call('UNLINK', KEYS[2])
return redis.call('UNLINK', KEYS[1])
