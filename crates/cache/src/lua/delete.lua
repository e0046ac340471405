-- Deletes an entry, or the lease of a load under way, tells those who wait for that, and whether the entry was there.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires; its name is the channel on which its end is told
-- returns  1 it was there, 0 it was not
local function is_waited_for(lease)
  return type(lease) == 'string' and string.sub(lease, 1, 2) == string.char(0xCB) .. '1'
end
local entry, beside = redis.pcall('GETRANGE', KEYS[1], 0, 1), redis.pcall('GETRANGE', KEYS[2], 0, 1)
local deleted = redis.call('UNLINK', KEYS[1])
redis.call('UNLINK', KEYS[2])
if is_waited_for(entry) or is_waited_for(beside) then redis.pcall('PUBLISH', KEYS[2], '') end
if type(entry) == 'string' and string.byte(entry) == 0xCB then return 0 end
return deleted
