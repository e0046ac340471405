-- Lets an entry expire sooner, never later, refuses what is being loaded for it, and tells those who wait for that; no command of
-- Redis 6.2 compares lives.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- ARGV[1]  longest time to live from now, in milliseconds
-- returns  1 the entry is there, 0 it is not
local lease = redis.pcall('GET', KEYS[2])
redis.call('UNLINK', KEYS[2])
if type(lease) == 'string' and string.sub(lease, 1, 1) == '1' then
  redis.pcall('PUBLISH', KEYS[2], '')
end
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return 0 end
if left == -1 or left > tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
