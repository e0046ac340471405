-- Knows those who wait for something, in the order in which they came: what stands before `lock.lua` or `permits.lua`, which know
-- what they wait for, and before `acquire.lua`, `release.lua` and `force_release.lua`.
--
-- KEYS[2]  queue: sorted set of who waits, by ticket; expires when nobody has asked for long
-- KEYS[3]  fence: string, the last fence of this partition; expires after its memory. Its name is the beginning of those of the channels
--          on which processes are told
-- ARGV[1]  who asks
-- ARGV[2]  memory of the fence in milliseconds
-- returns  nothing; functions that look and hand on
--
-- Who asks, and so who waits, is a token (16 bytes), a mailbox (16), a lease in milliseconds (8), a weight (4) and a holder.

-- No more of those who wait and are gone are passed over at a time.
local MOST = 5000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local who = string.sub(ARGV[1], 1, 16)

-- What a lock and permits know each in its own way.
-- had(): the fence and the milliseconds that are left, where who asks has it.
-- is_free(weight): whether so much is there for whoever comes.
-- free_in(weight): in how many milliseconds it may be, at the earliest; -1 for never.
-- give(token, lease, weight, holder, fence): gives it, without a look.
-- take(): takes it from who asks, and returns whether it had it.
local had, is_free, free_in, give, take

-- The next fence: the last one and one more, or the time in microseconds if that is higher.
local function next_fence()
  local last = tonumber(redis.call('GET', KEYS[3]) or '')
  -- Beyond 2^53 a number has no successor here.
  if last and last >= now and last < 9007199254740991 then
    return last + 1
  end
  return now
end

-- Gives one who waits what it asks for.
local function grant(waiter, lease, weight, fence)
  local life = math.max(redis.call('PTTL', KEYS[3]), ARGV[2] + lease)
  redis.call('SET', KEYS[3], string.format('%.0f', fence), 'PX', string.format('%.0f', life))
  give(string.sub(waiter, 1, 16), lease, weight, string.sub(waiter, 45), fence)
end

-- The lease and the weight that one who waits asks for; nil for what another program wrote.
local function terms_of(waiter)
  if #waiter >= 44 then
    local lease, weight = struct.unpack('>I8I4', waiter, 33)
    if lease >= 1 and lease <= 31622400000 then
      return lease, weight
    end
  end
end

-- The mailboxes that nobody reads.
local unread = {}

-- Tells the process of one who waits; returns whether it is there, and nothing without the right to publish.
local function tell(waiter, message)
  local mailbox = KEYS[3] .. ':' .. string.sub(waiter, 17, 32)
  if unread[mailbox] or not terms_of(waiter) then
    return false
  end
  local told = redis.pcall('SPUBLISH', mailbox, message)
  if type(told) == 'table' and string.find(told.err, 'nknown Redis command') then
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

-- Tells one who waits first when it may be its turn at the earliest; returns as `tell` does.
local function tell_turn(waiter)
  local _, weight = terms_of(waiter)
  local left = weight and math.max(0, free_in(weight)) or 0
  return tell(waiter, 'f' .. string.sub(waiter, 1, 16) .. struct.pack('>I8', left))
end

-- Tells who waits first and is there, since nobody else looks after that.
local function tell_first()
  for _ = 1, MOST do
    local waiter = first()
    if not waiter or tell_turn(waiter) ~= false then
      return
    end
    redis.call('ZREM', KEYS[2], waiter)
  end
end

-- Gives what is free to those who wait first and are there; `written` where there was a write before. Returns the fence that who asks
-- got, who need not be told; whether others wait for what is still free or will be; and whether who is first of them has to ask by itself.
local function hand_on(written)
  local own
  local moved = false
  for _ = 1, MOST do
    -- It is false where nothing is free, and nil where nobody waits.
    local waiter = is_free(1) and first()
    if waiter == nil then
      return own, false
    end
    if not waiter then
      if moved then
        tell_first()
      end
      return own, true
    end
    local lease, weight = terms_of(waiter)
    -- It may ask without its mailbox now.
    local is_own = lease and string.sub(waiter, 1, 16) == who
    local fits = not weight or is_free(weight)
    -- What is free is not enough for who is first. Others wait for its sake, so it has to be there.
    if not fits and (is_own or tell_turn(waiter) ~= false) then
      return own, true
    end
    if not written then
      written = true
      -- Where the server refuses writes, it refuses this one, before anybody is told that it has something.
      redis.call('ZREM', KEYS[2], '')
    end
    local there, fence = fits, next_fence()
    if fits and not is_own then
      there = tell(waiter, 'g' .. string.sub(waiter, 1, 16) .. struct.pack('>I8I8', fence, now))
    end
    if there == nil then
      return own, true, true
    end
    redis.call('ZREM', KEYS[2], waiter)
    moved = true
    if there then
      grant(waiter, lease, weight, fence)
      own = is_own and fence or own
    end
  end
  -- There are more, and who asks next passes over them.
  return own, true, true
end
