-- Renews the lease of a member that is still there; ZADD alone would bring back one that is not.
--
-- KEYS[1]  members: hash; expires with the last lease
-- KEYS[2]  leases: sorted set of members by the end of their lease in milliseconds; expires with the last lease
-- ARGV[1]  member
-- ARGV[2]  lease in milliseconds
-- returns  1 renewed, 0 gone
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not ends or tonumber(ends) <= now or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[2]), ARGV[1])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
last = string.format('%.0f', math.min(last[2], 9007199254740991))
redis.call('PEXPIREAT', KEYS[1], last)
redis.call('PEXPIREAT', KEYS[2], last)
return 1
