-- Gives a lock a new lease if the token still has it, which no command compares; one run serves many.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  fence: string of the partition, expires after its memory
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  life of the fence in milliseconds
-- ARGV[4]  1 where the new lease may end sooner
-- returns  the fence, or nothing where the token has it no more
return function(lock, fence, token, lease, life, may_shorten)
  local value = redis.call('GETRANGE', lock, 0, 23)
  if string.sub(value, 9) ~= token then
    return false
  end
  if may_shorten == '1' or redis.call('PTTL', lock) < tonumber(lease) then
    redis.call('PEXPIRE', lock, lease)
  end
  if redis.call('PTTL', fence) < tonumber(life) then
    redis.call('PEXPIRE', fence, life)
  end
  return (struct.unpack('>I8', value))
end
