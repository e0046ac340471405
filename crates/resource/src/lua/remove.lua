-- Removes a record with all that finds it, and hands it to one caller.
--
-- KEYS[1]  record: hash; the others as `index.lua` says
-- ARGV[1]  id
-- returns  its fields and values, nil when it was not there; none when another program had put something else there
local is_there, foreign = there(KEYS[1], ARGV[1])
local found = is_there and redis.call('HGETALL', KEYS[1]) or foreign and {}
redis.call('DEL', KEYS[1])
forget(ARGV[1])
purge(100)
settle()
return found
