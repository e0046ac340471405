-- Lets an entry expire sooner, never later, refuses what is being loaded for it, and tells those who wait for that; no command of
-- Redis 6.2 compares lives.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires; its name is the channel on which its end is told
-- ARGV[1]  longest time to live from now, in milliseconds
-- ARGV[2]  the moment when that is over, as it stands in the entry
-- returns  1 the entry is there, 0 it is not
local function is_waited_for(lease)
  return type(lease) == 'string' and string.sub(lease, 1, 2) == string.char(0xCB) .. '1'
end
local entry, beside = redis.pcall('GETRANGE', KEYS[1], 0, 15), redis.pcall('GETRANGE', KEYS[2], 0, 1)
if type(entry) ~= 'string' then entry = '' end
redis.call('UNLINK', KEYS[2])
if string.byte(entry) == 0xCB then redis.call('UNLINK', KEYS[1]) end
if is_waited_for(entry) or is_waited_for(beside) then redis.pcall('PUBLISH', KEYS[2], '') end
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return 0 end
if left == -1 or left > tonumber(ARGV[1]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
local is_entry = string.sub(entry, 1, 2) == string.char(0xCA, 3) and #entry == 16
if is_entry and struct.unpack('>I6', entry, 11) > struct.unpack('>I6', ARGV[2]) then
  -- A full server takes nothing. The entry expires all the same.
  redis.pcall('SETRANGE', KEYS[1], 10, ARGV[2])
end
return 1
