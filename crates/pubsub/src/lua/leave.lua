-- Removes a member from both keys at once, and says whether its lease had not ended.
--
-- KEYS[1]  members: hash
-- KEYS[2]  leases: sorted set of members by the end of their lease in milliseconds
-- ARGV[1]  member
-- returns  1 it was there, 0 it was not
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
if ends and tonumber(ends) > now then
  return 1
end
return 0
