-- Knows permits, of which there are some, and of which one takes as many as its weight: what stands behind `queue.lua`, before what is
-- asked.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- KEYS[5]  shares: hash of what each token has, by token: the fence (8 bytes), the weight (4) and the holder; `out` is the sum of the
--          weights; expires with the permits
-- ARGV[3]  how many there are
-- returns  nothing; functions
local count, millis = tonumber(ARGV[3]), math.floor(now / 1000)
-- No more leases than these are looked at to know when enough end.
local SOME = '99'

local function share_of(token)
  local share = redis.call('HGET', KEYS[5], token)
  if share and #share >= 12 then
    return struct.unpack('>I8I4', share)
  end
  return 0, 1
end

local function remove(token)
  local _, weight = share_of(token)
  redis.call('ZREM', KEYS[1], token)
  redis.call('HDEL', KEYS[5], token)
  -- What another program wrote may be no number.
  local left = redis.pcall('HINCRBY', KEYS[5], 'out', -weight)
  if type(left) == 'table' or left <= 0 then
    redis.call('HDEL', KEYS[5], 'out')
  end
end

-- How many are out, of those whose lease has not ended; looks once.
local out
local function taken()
  if not out then
    for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', millis)) do
      remove(token)
    end
    local members, noted = redis.call('ZCARD', KEYS[1]), redis.call('HGET', KEYS[5], 'out')
    if noted and members == 0 then
      redis.call('DEL', KEYS[5])
      noted = 0
    end
    out = math.max(members, tonumber(noted or 0) or 0)
  end
  return out
end

function had()
  local ends = tonumber(redis.call('ZSCORE', KEYS[1], who) or '')
  if ends and ends > millis then
    return (share_of(who)), ends - millis
  end
end

function is_free(weight)
  return taken() + weight <= count
end

function free_in(weight)
  local missing = taken() + weight - count
  local ends = redis.call('ZRANGE', KEYS[1], 0, SOME, 'WITHSCORES')
  local last = millis
  for at = 1, #ends, 2 do
    if missing <= 0 then
      break
    end
    local _, freed = share_of(ends[at])
    missing, last = missing - freed, tonumber(ends[at + 1])
  end
  return math.max(0, math.min(last - millis, 31622400000))
end

function give(token, lease, weight, holder, fence)
  out = out + weight
  redis.call('HSET', KEYS[5], token, struct.pack('>I8I4', fence, weight) .. holder, 'out', out)
  redis.call('ZADD', KEYS[1], string.format('%.0f', millis + lease), token)
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
  -- Another program's member may never end, and 2^53 is as far as numbers go here.
  last = string.format('%.0f', math.min(last, 9007199254740991))
  redis.call('PEXPIREAT', KEYS[1], last)
  redis.call('PEXPIREAT', KEYS[5], last)
end

function take()
  local ends = tonumber(redis.call('ZSCORE', KEYS[1], who) or '')
  if ends then
    remove(who)
    return ends > millis
  end
end
