-- Knows a lock, which one has at a time: what stands behind `queue.lua`, before what is asked.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- returns  nothing; functions
local looked, had

-- Looks once.
local function value()
  if not looked then
    looked, had = true, redis.call('GET', KEYS[1])
  end
  return had
end

function had_by(token)
  if value() and string.sub(had, 9, 24) == token then
    return (struct.unpack('>I8', had)), redis.call('PTTL', KEYS[1])
  end
end

function is_free()
  return not value()
end

function free_in()
  return math.max(-1, redis.call('PTTL', KEYS[1]))
end

function give(token, lease, _, holder, fence)
  had = struct.pack('>I8', fence) .. token .. holder
  redis.call('SET', KEYS[1], had, 'PX', string.format('%.0f', lease))
end

function take(token)
  if value() and string.sub(had, 9, 24) == token then
    had = nil
    redis.call('DEL', KEYS[1])
    return true
  end
end
