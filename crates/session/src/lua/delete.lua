-- Deletes a session together with its entry in the index, which only the session itself names.
--
-- KEYS[1]  session: hash, expires
-- KEYS[2]  index: sorted set of digest and user by end, expires with the last of them
-- ARGV[1]  digest of the id, 32 bytes
-- returns  1 deleted, 0 there was none
-- A key that another program has spoilt must keep nobody from logging out.
local user = redis.pcall('HGET', KEYS[1], 'user')
local deleted = redis.call('DEL', KEYS[1])
if type(user) == 'string' then
  redis.pcall('ZREM', KEYS[2], ARGV[1] .. user)
end
return deleted
