-- Gives a lock a new lease if the token still has it, which no command compares; one run serves many.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  fence: string of the partition, expires after its memory
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  life of the fence in milliseconds
-- returns  1 extended, 0 the token has it no more
return function(lock, fence, token, lease, life)
  if redis.call('GETRANGE', lock, 8, 23) ~= token then
    return 0
  end
  redis.call('PEXPIRE', lock, lease)
  if redis.call('PTTL', fence) < tonumber(life) then
    redis.call('PEXPIRE', fence, life)
  end
  return 1
end
