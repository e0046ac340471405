-- Counts, and gives a counter that has no life yet one, so that none stays when its process ends between two commands.
--
-- KEYS[1]  counter: string, expires
-- ARGV[1]  INCRBY or DECRBY
-- ARGV[2]  how many
-- ARGV[3]  time to live in milliseconds
-- returns  the count as a text, because numbers in Lua are exact up to 2^53 only
-- Redis 6.2 takes this number for its own opposite, and newer ones refuse it.
if ARGV[1] == 'DECRBY' and ARGV[2] == '-9223372036854775808' then
  return redis.error_reply('-ERR decrement would overflow')
end
redis.call(ARGV[1], KEYS[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.call('GET', KEYS[1])
