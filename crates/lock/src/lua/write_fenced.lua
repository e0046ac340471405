-- Writes a value unless one with a higher fence was written before, which no command compares.
--
-- KEYS[1]  value: string of the fence (8 bytes), a byte 1 and the value; of the fence alone where it was deleted; expires
-- ARGV[1]  fence (8 bytes)
-- ARGV[2]  a byte 1 and the value; empty to delete it
-- ARGV[3]  time to live in milliseconds
-- returns  1 written, 0 refused
local before = redis.call('GETRANGE', KEYS[1], 0, 7)
if #before == 8 and struct.unpack('>I8', before) > struct.unpack('>I8', ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1
