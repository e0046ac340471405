-- Takes a lock that is free and for which nobody waits, or has the token wait for it: no command compares, counts, and looks
-- at the clock and the queue at once. Asked again by the token that has it or waits, it answers the same, and keeps its place.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[3]  fence: string, the last fence of the partition
-- ARGV[1]  token (16 bytes)
-- ARGV[3]  lease in milliseconds
-- ARGV[4]  holder
-- ARGV[5]  mailbox (16 bytes); empty for who does not wait
-- returns  {1, the fence, milliseconds until its lease ends, {0, 0}}, or {0, the place in the queue or -1, milliseconds until the lease ends
--          that another one has, {the time in microseconds, the last fence}}
local lease = tonumber(ARGV[3])
local waiter = ARGV[1] .. ARGV[5] .. struct.pack('>I8', lease) .. ARGV[4]
local token, fence = held()
if token == ARGV[1] then
  return {1, (struct.unpack('>I8', fence)), redis.call('PTTL', KEYS[1]), {0, 0}}
end
if not token then
  local taken, own = hand_on(ARGV[1])
  if own then
    return {1, own, lease, {0, 0}}
  elseif not taken then
    own = next_fence()
    give(ARGV[1], lease, ARGV[4], own)
    return {1, own, lease, {0, 0}}
  end
end
local left = redis.call('PTTL', KEYS[1])
-- At -2 it is free, and for others.
if ARGV[5] == '' or left == -2 then
  return {0, -1, math.max(-1, left), {now, 0}}
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
local ticket = math.max(now, (tonumber(last) or 0) + 1)
redis.call('ZADD', KEYS[2], 'NX', string.format('%.0f', ticket), waiter)
-- Who waits asks again within a lease.
local life = 2 * math.max(left, lease) + 60000
if redis.call('PTTL', KEYS[2]) < life then
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', life))
end
fence = tonumber(redis.call('GET', KEYS[3]) or '') or 0
return {0, redis.call('ZRANK', KEYS[2], waiter), left, {now, fence < 9007199254740992 and fence or 0}}
