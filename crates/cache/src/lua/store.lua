-- Stores an entry, with the moment until which it is fresh, and ends its lease, so that no older load replaces it; a loaded one
-- only while its lease is there. Tells those who wait for the end of the lease.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- ARGV[1]  the entry before that moment
-- ARGV[2]  the entry behind it
-- ARGV[3]  for how long it is fresh, in milliseconds
-- ARGV[4]  time to live in milliseconds
-- ARGV[5]  token of the lease that the value was loaded under; none to store in any case
-- returns  1 stored, 0 refused
local lease = redis.pcall('GET', KEYS[2])
if type(lease) ~= 'string' then lease = '' end
if ARGV[5] and string.sub(lease, 2) ~= ARGV[5] then
  -- Whoever ended it may have had no way to tell.
  if lease == '' then redis.pcall('PUBLISH', KEYS[2], '') end
  return 0
end
-- Without the right to know the time, it is fresh as long as it is there.
local now, fresh = redis.pcall('TIME'), 281474976710655
if not now.err then fresh = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[3] end
redis.call('SET', KEYS[1], ARGV[1] .. struct.pack('>I6', fresh) .. ARGV[2], 'PX', ARGV[4])
redis.call('UNLINK', KEYS[2])
if string.sub(lease, 1, 1) == '1' then redis.pcall('PUBLISH', KEYS[2], '') end
return 1
