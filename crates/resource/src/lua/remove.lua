-- Removes a record with all that finds it, and hands it to one caller.
--
-- KEYS[1]  record: hash; the others as `index.lua` says
-- ARGV[1]  id
-- returns  its fields and values, nil when it was not there
local found = there(ARGV[1]) and redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
forget(ARGV[1])
purge(100)
settle()
return found
