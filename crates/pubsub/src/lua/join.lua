-- Adds a member for a lease, or renews the one that is there, and removes those whose lease has ended. No command does both.
--
-- KEYS[1]  members: hash of member to the milliseconds of its joining, a space and the info; expires with the last lease
-- KEYS[2]  leases: sorted set of members by the end of their lease in milliseconds; expires with the last lease
-- ARGV[1]  member
-- ARGV[2]  info
-- ARGV[3]  lease in milliseconds
-- returns  1 new, 0 renewed: it keeps the time of its joining
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
repeat
  local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 1000)
  if #ended > 0 then
    redis.call('HDEL', KEYS[1], unpack(ended))
    redis.call('ZREM', KEYS[2], unpack(ended))
  end
until #ended < 1000
local joined = string.format('%.0f', now)
local is_new = 1
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  is_new = 0
  joined = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) ') or joined
end
redis.call('HSET', KEYS[1], ARGV[1], joined .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[1])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
-- Another program's member may never end, and 2^53 is as far as numbers go here.
last = string.format('%.0f', math.min(last[2], 9007199254740991))
redis.call('PEXPIREAT', KEYS[1], last)
redis.call('PEXPIREAT', KEYS[2], last)
return is_new
