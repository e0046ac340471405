-- Finds the sessions of a user that have not ended, and forgets those that have, by the server's clock.
--
-- KEYS[1]  index: sorted set of digest and user by end, expires with the last of them
-- ARGV[1]  user
-- returns  their digests
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now))
local found = {}
for _, entry in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(entry, 33) == ARGV[1] then
    found[#found + 1] = string.sub(entry, 1, 32)
  end
end
return found
