-- Creates a session unless its key is taken, and lists it, as one step by the server's clock, which no command does.
--
-- KEYS[1]  session: hash, expires
-- KEYS[2]  index: sorted set of digest and user by end, expires with the last of them
-- ARGV[1]  digest of the id, 32 bytes
-- ARGV[2]  user
-- ARGV[3]  idle life in milliseconds
-- ARGV[4]  absolute life in milliseconds, 0 for none
-- ARGV[5..]  further fields and their values, by turns
-- returns  time of creation and end in milliseconds since 1970; nothing when the key is taken
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number)
  return string.format('%.0f', number)
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
local ends = now + ARGV[3]
local limit = 0
if ARGV[4] ~= '0' then
  limit = now + ARGV[4]
  ends = math.min(ends, limit)
end
-- The first write is one that a full server refuses, and so is that on an index which another program has spoilt.
redis.call('ZADD', KEYS[2], whole(ends), ARGV[1] .. ARGV[2])
redis.call('HSET', KEYS[1], 'user', ARGV[2], 'created', whole(now), 'seen', whole(now),
  'idle', ARGV[3], 'ends', whole(ends), 'limit', whole(limit), 'version', '1')
for n = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
end
redis.call('PEXPIREAT', KEYS[1], whole(ends))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. whole(now))
if redis.call('PTTL', KEYS[2]) < ends - now then
  redis.call('PEXPIREAT', KEYS[2], whole(ends))
end
return {now, ends}
