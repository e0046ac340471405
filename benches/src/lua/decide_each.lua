-- Decides as decide.lua does, for all callers whose calls are gathered: the clock and the subjects are read once.
--
-- KEYS[1..]  subjects, one for each caller: strings, when their budget is whole again; expire then
-- SHARED[1]  microseconds between two that pass
-- SHARED[2]  microseconds that may be used in advance
-- returns  for each caller: microseconds of budget that are left; below zero it does not pass, until so many have gone by
local call, format, max = redis.call, string.format, math.max
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(SHARED[1]), tonumber(SHARED[2])
local read, whole_at = call('MGET', unpack(KEYS)), {}
for n = 1, #KEYS do whole_at[KEYS[n]] = tonumber(read[n] or 0) end
return function(subject)
  local whole = max(whole_at[subject], now) + interval
  local room = now + burst - whole
  if room >= 0 then
    -- Another caller may have the same subject.
    whole_at[subject] = whole
    call('SET', subject, format('%d', whole), 'PX', format('%d', (whole - now) / 1000 + 1))
  end
  return room
end
