-- Gives a lease back under which nothing is stored, and tells those who wait, if any does. Where a load has failed, those who have
-- something to go on with leave it alone for a while.
--
-- KEYS[1]  lease: string, expires
-- ARGV[1]  its token
-- ARGV[2]  for how many milliseconds it is left alone, 0 when it can be loaded at once
-- returns  1 it was given back, 0 it was ended before
local lease = redis.pcall('GET', KEYS[1])
if type(lease) ~= 'string' or string.sub(lease, 2) ~= ARGV[1] then
  -- Whoever ended it may have had no way to tell.
  if not lease then redis.pcall('PUBLISH', KEYS[1], '') end
  return 0
end
-- A full server takes nothing, and then everybody may try.
local note = ARGV[2] ~= '0' and redis.pcall('SET', KEYS[1], '2' .. ARGV[1], 'PX', ARGV[2])
if not note or note.err then redis.call('UNLINK', KEYS[1]) end
if string.sub(lease, 1, 1) == '1' then redis.pcall('PUBLISH', KEYS[1], '') end
return 1
