-- Keeps what finds the records in step with them, in the same step; it stands before each script that changes or lists any.
--
-- KEYS[1]  record: hash, expires when it has a life
-- KEYS[2]  order: sorted set of ids by the microsecond of their creation
-- KEYS[3]  expiry: sorted set of the ids that have a life by the millisecond of its end
-- KEYS[4]  entries: hash of ids, and what each of them has in the next two
-- KEYS[5]  unique: hash of entries, and the id that has each of them
-- KEYS[6]  lookup: sorted set of entries, behind each the creation and the id
-- returns  nothing: the script behind it goes on
local record, order, expiry = KEYS[1], KEYS[2], KEYS[3]
local entries, unique, lookup = KEYS[4], KEYS[5], KEYS[6]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

-- What another program put at one of these keys is an error before anything has changed.
redis.call('ZCARD', order)
redis.call('ZCARD', expiry)
redis.call('HLEN', entries)
redis.call('HLEN', unique)
redis.call('ZCARD', lookup)

local function decimal(number)
  return string.format('%.0f', number)
end

local function expired(id)
  local at = redis.call('ZSCORE', expiry, id)
  return at and tonumber(at) < now
end

-- Whether the record is there, and whether another program has put something else at its key. Its own life and its end in
-- `expiry` can differ by the millisecond between two clocks.
local function there(key, id)
  local found = redis.call('TYPE', key).ok
  return found == 'hash' and not expired(id), found ~= 'hash' and found ~= 'none'
end

local function texts(list)
  if type(list) ~= 'table' then
    return false
  end
  for _, item in ipairs(list) do
    if type(item) ~= 'string' then
      return false
    end
  end
  return true
end

local function entries_of(id)
  local packed = redis.call('HGET', entries, id)
  if packed then
    local done, own = pcall(cmsgpack.unpack, packed)
    if done and type(own) == 'table' and texts(own[1]) and texts(own[2]) then
      return own
    end
  end
  return {{}, {}}
end

local function release(id, entry)
  if redis.call('HGET', unique, entry) == id then
    redis.call('HDEL', unique, entry)
  end
end

-- Removes all that finds an id.
local function forget(id)
  local own = entries_of(id)
  for _, entry in ipairs(own[1]) do
    release(id, entry)
  end
  for _, member in ipairs(own[2]) do
    redis.call('ZREM', lookup, member)
  end
  redis.call('HDEL', entries, id)
  redis.call('ZREM', order, id)
  redis.call('ZREM', expiry, id)
end

-- Forgets ids whose life is over; returns whether there may be more than `limit`.
local function purge(limit)
  local over = redis.call('ZRANGEBYSCORE', expiry, '-inf', '(' .. decimal(now), 'LIMIT', 0, limit)
  for _, id in ipairs(over) do
    forget(id)
  end
  return #over == limit
end

-- The millisecond at which a life ends; nil for none.
local function ending(life, ms)
  if life == 'in' then
    return now + tonumber(ms)
  elseif life == 'at' then
    return tonumber(ms)
  end
end

-- Gives the record a life until `at`, or without end.
local function live(id, at)
  if at then
    redis.call('PEXPIREAT', record, decimal(at))
    redis.call('ZADD', expiry, decimal(at), id)
  else
    redis.call('PERSIST', record)
    redis.call('ZREM', expiry, id)
  end
end

-- Lets what finds the records go together with the last of them, so that nothing stays of a resource that nobody uses.
local function settle()
  local finding = {order, expiry, entries, unique, lookup}
  if redis.call('ZCARD', order) > redis.call('ZCARD', expiry) then
    if redis.call('PTTL', order) >= 0 then
      for _, key in ipairs(finding) do
        redis.call('PERSIST', key)
      end
    end
    return
  end
  local last = redis.call('ZREVRANGE', expiry, 0, 0, 'WITHSCORES')[2]
  if last then
    -- Another program may have put anything there; no life of a record ends after 2^53.
    last = decimal(math.max(0, math.min(tonumber(last), 9007199254740992)))
    for _, key in ipairs(finding) do
      redis.call('PEXPIREAT', key, last)
    end
  end
end

