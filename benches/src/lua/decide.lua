-- Decides by the generic cell rate algorithm: reads, compares with the clock and writes, which no command does at once.
--
-- KEYS[1]  subject: string, when its budget is whole again; expires then
-- ARGV[1]  microseconds between two that pass
-- ARGV[2]  microseconds that may be used in advance
-- returns  microseconds of budget that are left; below zero it does not pass, until so many have gone by
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local whole = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + ARGV[1]
local room = now + ARGV[2] - whole
if room >= 0 then
  redis.call('SET', KEYS[1], string.format('%d', whole), 'PX', string.format('%d', (whole - now) / 1000 + 1))
end
return room
