-- Stores what was loaded under a lease, unless that was ended or the entry that it lay beside is another one by now, and tells those
-- who wait for its end: no command of Redis compares before it does so.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires; its name is the channel on which its end is told
-- ARGV[2]  the entry
-- ARGV[3]  time to live in milliseconds
-- returns  1 stored, 0 refused
if not lease then
  -- Whoever ended it may have had no way to tell.
  redis.pcall('PUBLISH', KEYS[2], '')
  return 0
end
local is_whole = here or redis.pcall('GETRANGE', KEYS[1], 0, 9) == string.sub(lease, 19)
if is_whole then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
if not here then redis.call('UNLINK', KEYS[2]) end
if string.sub(lease, 2, 2) == '1' then redis.pcall('PUBLISH', KEYS[2], '') end
return is_whole and 1 or 0
