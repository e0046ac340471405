-- Takes what a token has, if it still has it, which no command compares, and gives it to those who wait first; or has the token
-- wait no more. It remembers that, so that a repeated call gets the same answer.
--
-- KEYS[1]  what it has
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[4]  released: string, the tokens that released it last, 64 of them; expires
-- ARGV[1]  token (16 bytes)
-- ARGV[4]  life of what is remembered in milliseconds
-- ARGV[5]  who waits, as it stands in the queue; empty for who does not
-- returns  1 released, now or by an earlier call; 0 the token has it no more
local had = take(ARGV[1])
local released = redis.call('GET', KEYS[4]) or ''
if had then
  -- Behind a write, the server takes this also when its memory is full.
  redis.call('SET', KEYS[4], ARGV[1] .. string.sub(released, 1, 1008), 'PX', ARGV[4])
  hand_on()
  return 1
end
if ARGV[5] ~= '' then
  local was_first = first() == ARGV[5]
  redis.call('ZREM', KEYS[2], ARGV[5])
  hand_on()
  if was_first then
    tell_first()
  end
end
for at = 1, #released, 16 do
  if string.sub(released, at, at + 15) == ARGV[1] then
    return 1
  end
end
return 0
