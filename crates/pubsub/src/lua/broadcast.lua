-- Puts a message into the history and publishes it as one step, so that both have the same order.
--
-- KEYS[1]  history: list, newest first; expires
-- KEYS[2]  the channel, which stores nothing: it is a key here so that it gets the prefix and the slot of one
-- ARGV[1]  the message
-- ARGV[2]  how many messages are kept
-- ARGV[3]  how long they are kept after this one, in milliseconds
-- returns  how many connections received it
redis.call('LPUSH', KEYS[1], ARGV[1])
local received = redis.pcall('PUBLISH', KEYS[2], ARGV[1])
if type(received) == 'table' then
  -- Refused (a user may lack the right to the channel): nothing was said, so nothing is remembered.
  redis.call('LTRIM', KEYS[1], 1, -1)
  return received
end
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return received
