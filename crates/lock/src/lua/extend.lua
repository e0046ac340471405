-- Gives a lock a new lease if the token still has it, which no command compares.
--
-- KEYS[1]  lock: hash, expires with its lease
-- KEYS[2]  fence: hash, expires after its memory
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  life of the fence in milliseconds
-- returns  1 extended, 0 the token has it no more
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
