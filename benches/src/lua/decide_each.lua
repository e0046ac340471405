-- Decides as decide.lua does, for all callers whose calls are gathered: the clock is read once.
--
-- KEYS[1..]  subjects, one for each caller: strings, when their budget is whole again; expire then
-- SHARED[1]  microseconds between two that pass
-- SHARED[2]  microseconds that may be used in advance
-- returns  for each caller: 1 passes, 0 does not; microseconds of budget that are left, or until one passes
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(SHARED[1]), tonumber(SHARED[2])
return function(key)
  local whole = math.max(tonumber(redis.call('GET', KEYS[key]) or 0), now) + interval
  local room = now + burst - whole
  if room < 0 then return {0, -room} end
  redis.call('SET', KEYS[key], string.format('%.0f', whole), 'PX', math.ceil((whole - now) / 1000))
  return {1, room}
end
