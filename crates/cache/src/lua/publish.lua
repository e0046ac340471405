-- Adds to several counters of one hash and gives it a life, as one, so that the sums fit together.
--
-- KEYS[1]  statistics: hash of counters, expires
-- ARGV[1..]  time to live in milliseconds; then the name of a counter, what is added to it, and so on
-- returns  1
for n = 2, #ARGV, 2 do
  local count = redis.call('HGET', KEYS[1], ARGV[n])
  if count and not string.find(count, '^%d+$') then
    -- Of another program. HINCRBY would end here, with the counters before it added and those behind it not.
    redis.call('HDEL', KEYS[1], ARGV[n])
  end
end
for n = 2, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[n], ARGV[n + 1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
