-- Takes one of n permits if fewer are out; those whose lease has ended count no more. No command counts and adds at once.
-- Asked again by a token that has one, it answers the same.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  how many permits there are
-- returns  1 taken, or nothing when all are out
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own = redis.call('ZSCORE', KEYS[1], ARGV[1])
if own and tonumber(own) > now then
  return 1
end
if redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf') >= tonumber(ARGV[3]) then
  return false
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
-- Another program's member may never end, and 2^53 is as far as numbers go here.
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.min(last[2], 9007199254740991)))
return 1
