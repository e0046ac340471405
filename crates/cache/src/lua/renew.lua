-- Lets a lease live on whose load takes its time, and the entry that it lies beside, unless it was ended: no command of Redis
-- compares before it does so.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires
-- ARGV[1]  its token
-- ARGV[2]  life of the lease in milliseconds
-- returns  1 it lives on, 0 it was ended
local function is_it(at)
  local lease = redis.pcall('GETRANGE', at, 0, 17)
  return type(lease) == 'string' and string.byte(lease) == 0xCB and string.sub(lease, 3) == ARGV[1]
end
if is_it(KEYS[1]) then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if not is_it(KEYS[2]) then return 0 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])
