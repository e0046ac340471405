-- Deletes an entry, or the lease in its place, tells those who wait for that one, and whether an entry was there. A lease beside it is
-- of no use from then on.
--
-- KEYS[1]  entry: string, expires; or the lease
-- ARGV[1]  how long the end of the key's name is, before which `lease:` makes the name of the channel on which its end is told
-- returns  1 it was there, 0 it was not
local entry = redis.pcall('GETRANGE', KEYS[1], 0, 1)
local deleted = redis.call('UNLINK', KEYS[1])
if type(entry) ~= 'string' or string.byte(entry) ~= 0xCB then return deleted end
if entry == string.char(0xCB) .. '1' then
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -1 - ARGV[1]) .. 'lease:' .. string.sub(KEYS[1], -ARGV[1]), '')
end
return 0
