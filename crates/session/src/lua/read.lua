-- Reads sessions of a user, and forgets the entries of those that are gone, as long as they are gone.
--
-- KEYS[1]  index: sorted set of digest and user by end, expires with the last of them
-- KEYS[2..]  sessions: hashes, expire
-- ARGV[1]  user
-- ARGV[2..]  digests of their ids, in the order of the keys
-- returns  of each all fields and their values by turns, none where there is no session
local found = {}
for n = 2, #KEYS do
  local fields = redis.pcall('HGETALL', KEYS[n])
  if fields.err then
    fields = {}
  elseif #fields == 0 then
    redis.call('ZREM', KEYS[1], ARGV[n] .. ARGV[1])
  end
  found[#found + 1] = fields
end
return found
