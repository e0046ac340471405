-- Knows a lock and those who wait for it, in the order in which they came: what stands before `acquire.lua`, `release.lua` and
-- `force_release.lua`, which are given these.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[3]  fence: string, the last fence of the locks of this partition; expires after its memory. Its name is the beginning of those
--          of the channels on which processes are told
-- ARGV[2]  memory of the fence in milliseconds
-- returns  nothing; functions that look and hand on
--
-- Who waits is a token (16 bytes), a mailbox (16), a lease in milliseconds (8) and a holder.

-- No more of those who wait and are gone are passed over at a time.
local MOST = 5000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The token that has the lock, and its fence.
local function held()
  local value = redis.call('GET', KEYS[1])
  if value then
    return string.sub(value, 9, 24), string.sub(value, 1, 8)
  end
end

-- The next fence: the last one and one more, or the time in microseconds if that is higher.
local function next_fence()
  local last = tonumber(redis.call('GET', KEYS[3]) or '')
  -- Beyond 2^53 a number has no successor here.
  if last and last >= now and last < 9007199254740991 then
    return last + 1
  end
  return now
end

local function give(token, lease, holder, fence)
  local life = math.max(redis.call('PTTL', KEYS[3]), ARGV[2] + lease)
  redis.call('SET', KEYS[3], string.format('%.0f', fence), 'PX', string.format('%.0f', life))
  redis.call('SET', KEYS[1], struct.pack('>I8', fence) .. token .. holder, 'PX', string.format('%.0f', lease))
end

-- The lease that one who waits asks for; nothing of what another program wrote.
local function lease_of(waiter)
  local lease = #waiter >= 40 and struct.unpack('>I8', waiter, 33)
  return lease and lease >= 1 and lease <= 31622400000 and lease
end

-- The mailboxes that nobody reads.
local unread = {}

-- Tells the process of one who waits; returns whether it is there, and nothing without the right to publish.
local function tell(waiter, message)
  local mailbox = KEYS[3] .. ':' .. string.sub(waiter, 17, 32)
  if unread[mailbox] or not lease_of(waiter) then
    return false
  end
  local told = redis.pcall('SPUBLISH', mailbox, message)
  if type(told) == 'table' and string.find(told.err, 'nknown') then
    -- Before Redis 7. PUBLISH also counts those who listen to patterns.
    told = redis.pcall('PUBSUB', 'NUMSUB', mailbox)
    told = told.err and told or told[2] > 0 and redis.pcall('PUBLISH', mailbox, message) or 0
  end
  if type(told) == 'number' then
    unread[mailbox] = told == 0
    return told > 0
  end
end

local function first()
  return redis.call('ZRANGE', KEYS[2], 0, 0)[1]
end

-- Tells who waits first for how long the lock is held, since nobody else looks after that.
local function tell_first(lease)
  for _ = 1, MOST do
    local waiter = first()
    local told = waiter and tell(waiter, 'f' .. string.sub(waiter, 1, 16) .. struct.pack('>I8', lease))
    if told ~= false then
      return
    end
    redis.call('ZREM', KEYS[2], waiter)
  end
end

-- Gives a lock that is free to the first who waits and is there. Returns whether it is not for others then, and its fence where it is
-- that of `own`, who need not be told.
local function hand_on(own)
  local fence
  for _ = 1, MOST do
    local waiter = first()
    if not waiter then
      return false
    end
    if not fence then
      -- Where the server refuses writes, it refuses this one, before anybody is told.
      redis.call('DEL', KEYS[1])
      fence = next_fence()
    end
    local token, lease = string.sub(waiter, 1, 16), lease_of(waiter)
    local there = token == own or tell(waiter, 'g' .. token .. struct.pack('>I8I8', fence, now))
    if there == nil then
      -- Whoever is first asks by itself.
      return true
    end
    redis.call('ZREM', KEYS[2], waiter)
    if there then
      give(token, lease, string.sub(waiter, 41), fence)
      tell_first(lease)
      return true, token == own and fence
    end
  end
  -- There are more, and who asks next passes over them.
  return true
end

