-- Adds to several counters of one hash and gives it a life, as one, so that the sums fit together.
--
-- KEYS[1]  statistics: hash of counters, expires
-- ARGV[1..]  time to live in milliseconds; then the name of a counter, what is added to it, and so on
-- returns  1
for n = 2, #ARGV, 2 do
  local added = redis.pcall('HINCRBY', KEYS[1], ARGV[n], ARGV[n + 1])
  if type(added) == 'table' then
    -- What another program left there is no count, or too large for another one.
    redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
