-- Lets a lease live on whose load takes its time, and the entry that it lies beside, unless it was ended or that is another one by
-- now: no command of Redis compares before it does so.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires
-- ARGV[2]  life of the lease in milliseconds
-- returns  1 it lives on, 0 it was ended
if here then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
local entry = lease and redis.pcall('GETRANGE', KEYS[1], 0, 20)
if type(entry) ~= 'string' or string.sub(entry, 1, 10) ~= string.sub(lease, 19) then return 0 end
local life = redis.call('PTTL', KEYS[1])
local says_so = string.sub(entry, 1, 2) == string.char(0xCA, 3) and #entry > 20
  and string.sub(entry, 11, 16) ~= string.rep(string.char(0xFF), 6)
if says_so and life >= 0 and life < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])
