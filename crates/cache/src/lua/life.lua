-- Returns how long the key of an entry has to live, and how the entry begins, as one.
--
-- KEYS[1]  entry: string, expires; or a lease
-- returns  {milliseconds, beginning}, -1 for ever, the beginning empty where nothing is there
local beginning = redis.pcall('GETRANGE', KEYS[1], 0, 15)
return {redis.call('PTTL', KEYS[1]), type(beginning) == 'string' and beginning or ''}
