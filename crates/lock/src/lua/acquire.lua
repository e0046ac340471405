-- Takes what is free and for which nobody waits, or has who asks wait for it: no command compares, counts, and looks at the clock and the
-- queue at once. Asked again by who has it or waits, it answers the same, and keeps the place.
--
-- KEYS[1]  what is asked for
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[3]  fence: string, the last fence of the partition
-- ARGV[1]  who asks; with a mailbox of spaces, it does not wait
-- returns  {1, the fence, milliseconds until its lease ends, {0, 0}}, or {0, the place in the queue or -1, milliseconds until it may be
--          free or -1, {the time in microseconds, the last fence}}
local fence, left = had()
if fence then
  return {1, fence, left, {0, 0}}
end
local lease, weight = terms_of(ARGV[1])
local own, wait, untold = hand_on()
if not own and not wait and is_free(weight) then
  own = next_fence()
  grant(ARGV[1], lease, weight, own)
end
if own then
  return {1, own, lease, {0, 0}}
end
if untold or string.sub(ARGV[1], 17, 32) == string.rep(' ', 16) then
  return {0, -1, -1, {now, 0}}
end
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
local ticket = math.max(now, (tonumber(last) or 0) + 1)
redis.call('ZADD', KEYS[2], 'NX', string.format('%.0f', ticket), ARGV[1])
-- Who waits asks again within a lease.
local life = 2 * math.max(redis.call('PTTL', KEYS[1]), lease) + 60000
if redis.call('PTTL', KEYS[2]) < life then
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', life))
end
fence = tonumber(redis.call('GET', KEYS[3]) or '') or 0
return {0, redis.call('ZRANK', KEYS[2], ARGV[1]), free_in(weight), {now, fence < 9007199254740992 and fence or 0}}
