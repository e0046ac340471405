-- Lets an entry expire sooner, never later, and be over by then for all who read it; makes another entry of it, so that what is being
-- loaded for it is refused; and tells those who wait for a lease in its place. No command of Redis 6.2 compares lives.
--
-- KEYS[1]  entry: string, expires; or the lease
-- ARGV[1]  how long the end of the key's name is, before which `lease:` makes the name of the channel on which its end is told
-- ARGV[2]  longest time to live from now, in milliseconds
-- ARGV[3]  a new mark (8 bytes)
-- returns  1 the entry is there, 0 it is not
local entry = redis.pcall('GETRANGE', KEYS[1], 0, 18)
if type(entry) ~= 'string' then entry = '' end
if string.byte(entry) == 0xCB then
  redis.call('UNLINK', KEYS[1])
  if string.sub(entry, 2, 2) == '1' then
    redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -1 - ARGV[1]) .. 'lease:' .. string.sub(KEYS[1], -ARGV[1]), '')
  end
  return 0
end
local left, longest = redis.call('PTTL', KEYS[1]), tonumber(ARGV[2])
if left == -2 then return 0 end
if left == -1 or left > longest then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  left = longest
end
if string.sub(entry, 1, 2) ~= string.char(0xCA, 3) or #entry ~= 19 then return 1 end
-- From here on it is served no longer than it is fresh, and fresh no longer than it lives. Who may not ask for the time has it over now.
local now = redis.pcall('TIME')
local over = now.err and 0 or now[1] * 1000 + math.floor(now[2] / 1000) + left
local fresh, flags = struct.unpack('>I6', entry, 11), string.byte(entry, 19)
if over > fresh then over = fresh end
if flags < 128 then flags = flags + 128 end
local head = ARGV[3] .. struct.pack('>I6', over) .. string.sub(entry, 17, 18) .. string.char(flags)
local written = redis.pcall('SETRANGE', KEYS[1], 2, head)
-- A full server takes nothing; what is gone is at least not there for too long.
if type(written) == 'table' then redis.call('UNLINK', KEYS[1]) end
return 1
