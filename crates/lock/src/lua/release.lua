-- Takes what a token has, if it still has it, which no command compares, and gives it to those who wait first; or has it wait no more.
-- It remembers that, so that a repeated call gets the same answer.
--
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[4]  released: string, the tokens that released it last, 64 of them; expires
-- ARGV[1]  who asks, as it may stand in the queue; or the token alone
-- ARGV[4]  life of what is remembered in milliseconds
-- returns  1 released, now or by an earlier call; 0 the token has it no more
local released = redis.call('GET', KEYS[4]) or ''
if take() then
  -- Behind a write, the server takes this also when its memory is full.
  redis.call('SET', KEYS[4], who .. string.sub(released, 1, 1008), 'PX', ARGV[4])
  hand_on(true)
  return 1
end
if ARGV[1] ~= who then
  local was_first = first() == ARGV[1]
  redis.call('ZREM', KEYS[2], ARGV[1])
  hand_on()
  if was_first then
    tell_first()
  end
end
for at = 1, #released, 16 do
  if string.sub(released, at, at + 15) == who then
    return 1
  end
end
return 0
