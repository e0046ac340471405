-- Moves the end of a session, as far as its absolute end allows, unless it has ended; no command adds to an end.
--
-- KEYS[1]  session: hash, expires
-- KEYS[2]  index: sorted set of digest and user by end, expires with the last of them
-- ARGV[1]  digest of the id, 32 bytes
-- ARGV[2]  how much later it ends, in milliseconds
-- ARGV[3]  how long from now it may live at most, in milliseconds
-- returns  its end in milliseconds since 1970; nothing when there is no session
local function number(text)
  return text and #text < 16 and string.find(text, '^%d+$') and tonumber(text)
end
local function whole(number)
  return string.format('%.0f', number)
end
local fields = redis.call('HMGET', KEYS[1], 'user', 'ends', 'limit')
local user, ends, limit = fields[1], number(fields[2]), number(fields[3])
if not user then
  return false
end
if not (ends and limit) then
  return redis.error_reply('-DAMAGED a time in the session is no number')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- In its last millisecond the key may still be there, and go with the first change of its end.
if ends <= now then
  return false
end
ends = math.min(ends + ARGV[2], now + ARGV[3])
if limit > 0 then
  ends = math.min(ends, limit)
end
-- The first write is one that a full server accepts, and with it those behind.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. whole(now))
redis.call('HSET', KEYS[1], 'ends', whole(ends))
redis.call('PEXPIREAT', KEYS[1], whole(ends))
redis.call('ZADD', KEYS[2], whole(ends), ARGV[1] .. user)
if redis.call('PTTL', KEYS[2]) < ends - now then
  redis.call('PEXPIREAT', KEYS[2], whole(ends))
end
return ends
