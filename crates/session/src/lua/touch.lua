-- Notes that a session was used and lets it live on, unless it has ended, which plain commands would bring back.
--
-- KEYS[1]  session: hash, expires
-- KEYS[2]  index: sorted set of digest and user by end, expires with the last of them
-- ARGV[1]  digest of the id, 32 bytes
-- ARGV[2]  1 begins the idle life anew, 0 notes the use only
-- ARGV[3]  1 returns all fields, 0 returns whether there is a session
-- returns  1 or 0; or all fields and their values by turns, none when there is no session
local function number(text)
  return text and #text < 16 and string.find(text, '^%d+$') and tonumber(text)
end
local function whole(number)
  return string.format('%.0f', number)
end
local fields = redis.call('HMGET', KEYS[1], 'user', 'idle', 'ends', 'limit')
local user, idle, ends, limit = fields[1], number(fields[2]), number(fields[3]), number(fields[4])
if not user then
  return ARGV[3] == '1' and {} or 0
end
if not (idle and ends and limit) then
  return redis.error_reply('-DAMAGED a time in the session is no number')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- In its last millisecond the key may still be there, and go with the first change of its end.
if ends <= now then
  return ARGV[3] == '1' and {} or 0
end
-- The first write is one that a full server accepts, and with it those behind: who is logged in stays so.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. whole(now))
if ARGV[2] == '1' then
  ends = math.max(ends, now + idle)
  if limit > 0 then
    ends = math.min(ends, limit)
  end
  redis.call('HSET', KEYS[1], 'seen', whole(now), 'ends', whole(ends))
  redis.call('PEXPIREAT', KEYS[1], whole(ends))
  redis.call('ZADD', KEYS[2], whole(ends), ARGV[1] .. user)
  if redis.call('PTTL', KEYS[2]) < ends - now then
    redis.call('PEXPIREAT', KEYS[2], whole(ends))
  end
else
  redis.call('HSET', KEYS[1], 'seen', whole(now))
end
if ARGV[3] == '1' then
  return redis.call('HGETALL', KEYS[1])
end
return 1
