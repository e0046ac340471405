-- Deletes a lock if the token still has it, which no command compares, and remembers that, so that a repeated call gets
-- the same answer.
--
-- KEYS[1]  lock: hash, expires with its lease
-- KEYS[2]  fence: hash of last and released; expires after its memory
-- ARGV[1]  token
-- ARGV[2]  memory of the fence in milliseconds
-- returns  1 released, now or by an earlier call; 0 the token has it no more
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  -- Deleted first: behind a write, the server takes the note also when its memory is full.
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'released', ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return 1
end
if redis.call('HGET', KEYS[2], 'released') == ARGV[1] then
  return 1
end
return 0
