-- Gives permits a new lease if their own has not ended by the server's clock, which no command compares; one run serves many.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- KEYS[2]  fence: string of the partition, expires after its memory
-- KEYS[3]  shares: hash of what each token has; expires with the permits
-- ARGV[1]  token
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  life of the fence in milliseconds
-- ARGV[4]  1 where the new lease may end sooner
-- returns  the fence, or nothing where the token has none any more
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return function(permits, fence, shares, token, lease, life, may_shorten)
  local ends = tonumber(redis.call('ZSCORE', permits, token) or '')
  if not (ends and ends > now) then
    return false
  end
  if may_shorten == '1' or ends < now + lease then
    -- A write first: behind one, the server takes the new end also when its memory is full.
    redis.call('ZREM', permits, '')
    redis.call('ZADD', permits, string.format('%.0f', now + lease), token)
  end
  local last = redis.call('ZRANGE', permits, -1, -1, 'WITHSCORES')[2]
  -- Another program's member may never end, and 2^53 is as far as numbers go here.
  last = string.format('%.0f', math.min(last, 9007199254740991))
  redis.call('PEXPIREAT', permits, last)
  redis.call('PEXPIREAT', shares, last)
  if redis.call('PTTL', fence) < tonumber(life) then
    redis.call('PEXPIRE', fence, life)
  end
  local share = redis.call('HGET', shares, token)
  return share and #share >= 12 and (struct.unpack('>I8', share)) or 0
end
