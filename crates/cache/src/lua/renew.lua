-- Lets a lease live on whose load takes its time, unless it was ended: no command of Redis compares before it does so.
--
-- KEYS[1]  lease: string, expires
-- ARGV[1]  its token
-- ARGV[2]  life of the lease in milliseconds
-- returns  1 it lives on, 0 it was ended
local lease = redis.pcall('GET', KEYS[1])
if type(lease) ~= 'string' or string.sub(lease, 2) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
