-- Removes the members whose lease has ended and returns the others, both by the server's clock.
--
-- KEYS[1]  members: hash of member to the milliseconds of its joining, a space and the info
-- KEYS[2]  leases: sorted set of members by the end of their lease in milliseconds
-- returns  a list of member and what the hash has of it
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
repeat
  local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 1000)
  if #ended > 0 then
    redis.call('HDEL', KEYS[1], unpack(ended))
    redis.call('ZREM', KEYS[2], unpack(ended))
  end
until #ended < 1000
local entries = redis.call('HGETALL', KEYS[1])
local stored = {}
for n = 1, #entries, 2 do
  stored[entries[n]] = entries[n + 1]
end
local found = {}
for n, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  found[n] = {member, stored[member] or false}
end
return found
