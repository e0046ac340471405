-- Returns how long an entry has to live, and how it begins, as one.
--
-- KEYS[1]  entry: string, expires; or a lease
-- returns  {milliseconds, beginning}, -1 for ever; {-2, nothing} where no entry is there
local beginning = redis.pcall('GETRANGE', KEYS[1], 0, 15)
if type(beginning) ~= 'string' or beginning == '' or string.byte(beginning) == 0xCB then return {-2, false} end
return {redis.call('PTTL', KEYS[1]), beginning}
