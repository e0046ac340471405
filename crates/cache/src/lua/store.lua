-- Stores an entry and ends its lease, so that no older load replaces it; a loaded one only while its lease is there.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- ARGV[1]  the entry
-- ARGV[2]  time to live in milliseconds
-- ARGV[3]  token of the lease that the value was loaded under; none to store in any case
-- returns  1 stored, 0 refused
if ARGV[3] and redis.pcall('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('UNLINK', KEYS[2])
return 1
