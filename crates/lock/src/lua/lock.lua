-- Knows a lock, which one has at a time: what stands behind `queue.lua`, before what is asked.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- returns  nothing; functions
local looked, value, left

-- Looks once.
local function lock()
  if not looked then
    looked, value = true, redis.call('GET', KEYS[1])
  end
  return value
end

function had()
  if lock() and string.sub(value, 9, 24) == who then
    return (struct.unpack('>I8', value)), redis.call('PTTL', KEYS[1])
  end
end

function is_free()
  return not lock()
end

function free_in()
  return left or math.max(-1, redis.call('PTTL', KEYS[1]))
end

function give(token, lease, _, holder, fence)
  value, left = struct.pack('>I8', fence) .. token .. holder, lease
  redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', lease))
end

function take()
  if lock() and string.sub(value, 9, 24) == who then
    value = nil
    redis.call('DEL', KEYS[1])
    return true
  end
end
