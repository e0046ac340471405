-- Gives a lease back under which nothing is stored, and tells those who wait, if any does. Where a load has failed, those who have
-- something to go on with leave it alone for a while.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires; its name is the channel on which its end is told
-- ARGV[2]  for how many milliseconds it is left alone, 0 when it can be loaded at once
-- returns  1 it was given back, 0 it was ended before
if not lease then
  -- Whoever ended it may have had no way to tell.
  redis.pcall('PUBLISH', KEYS[2], '')
  return 0
end
local is_whole = here or redis.pcall('GETRANGE', KEYS[1], 0, 9) == string.sub(lease, 19)
if here then
  redis.call('UNLINK', KEYS[1])
else
  -- A full server takes nothing, and then everybody may try.
  local note = is_whole and ARGV[2] ~= '0'
    and redis.pcall('SET', KEYS[2], string.char(0xCB) .. '2' .. string.sub(lease, 3), 'PX', ARGV[2])
  if not note or note.err then redis.call('UNLINK', KEYS[2]) end
end
if string.sub(lease, 2, 2) == '1' then redis.pcall('PUBLISH', KEYS[2], '') end
return is_whole and 1 or 0
