-- Takes a lock from a token if it still has it, which no command compares, and gives it to the first who waits; or has the token
-- wait no more. It remembers that, so that a repeated call gets the same answer.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[4]  released: string, the tokens that released it last, 64 of them; expires
-- ARGV[1]  token (16 bytes)
-- ARGV[3]  life of what is remembered in milliseconds
-- ARGV[4]  who waits, as it stands in the queue; empty for who does not
-- returns  1 released, now or by an earlier call; 0 the token has it no more
local token = held()
local released = redis.call('GET', KEYS[4]) or ''
if token == ARGV[1] then
  -- Deleted first: behind a write, the server takes the rest also when its memory is full.
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[4], ARGV[1] .. string.sub(released, 1, 1008), 'PX', ARGV[3])
  hand_on()
  return 1
end
if ARGV[4] ~= '' then
  local was_first = first() == ARGV[4]
  redis.call('ZREM', KEYS[2], ARGV[4])
  if not token then
    hand_on()
  elseif was_first then
    tell_first(redis.call('PTTL', KEYS[1]))
  end
end
for at = 1, #released, 16 do
  if string.sub(released, at, at + 15) == ARGV[1] then
    return 1
  end
end
return 0
