-- Deletes those of the sessions that are the user's, and their entries in the index, which plain commands cannot tell.
--
-- KEYS[1]  index: sorted set of digest and user by end, expires with the last of them
-- KEYS[2..]  sessions: hashes, expire
-- ARGV[1]  user
-- ARGV[2..]  digests of their ids, in the order of the keys
-- returns  how many were deleted
local deleted = 0
for n = 2, #KEYS do
  -- The entry speaks for a session whose fields another program has spoilt.
  local listed = redis.call('ZREM', KEYS[1], ARGV[n] .. ARGV[1]) == 1
  if listed or redis.pcall('HGET', KEYS[n], 'user') == ARGV[1] then
    deleted = deleted + redis.call('DEL', KEYS[n])
  end
end
return deleted
