-- Decides by the generic cell rate algorithm: reads a moment, compares it with the clock and moves it, which no command does.
--
-- KEYS[1]  arrival: string, the moment in microseconds since 1970 from which on nothing counts any more; expires then
-- ARGV[1]  microseconds after which one more may pass
-- ARGV[2]  how many may pass at once
-- ARGV[3]  how many ask
-- ARGV[4]  1 consumes, 0 only looks
-- returns  microseconds until as many would pass, 0 when they do; how many are counted; microseconds until none is; the
--          server's clock in microseconds since 1970. An error NOTOURS when the key holds no moment
local interval, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local consumes = ARGV[4] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('GET', KEYS[1])
if stored and not string.find(stored, '^[1-9]%d*$') then
  return redis.error_reply('-NOTOURS the key holds no moment')
end
local arrival = now
if stored then arrival = math.max(now, tonumber(stored)) end

-- A clock that was set back, or a smaller quota: nobody waits for longer than a whole burst takes. This has to be stored, for
-- otherwise the moment stays as far away as it was while denied requests change nothing.
local latest = now + burst * interval
local late = arrival > latest
if late then arrival = latest end

local wait = math.max(0, arrival + cost * interval - latest)
local passes = consumes and wait == 0
if passes then arrival = arrival + cost * interval end
if passes or (consumes and late) then
  local gone = string.format('%.0f', math.ceil(arrival / 1000))
  redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PXAT', gone)
end
return {wait, math.ceil((arrival - now) / interval), arrival - now, now}
