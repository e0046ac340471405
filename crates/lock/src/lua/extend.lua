-- Gives a lock a new lease if the token still has it, which no command compares.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  fence: string of the partition, expires after its memory
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  life of the fence in milliseconds
-- returns  1 extended, 0 the token has it no more
if redis.call('GETRANGE', KEYS[1], 8, 23) ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return 1
