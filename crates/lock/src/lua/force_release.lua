-- Takes a lock from whoever has it, and gives it to the first who waits.
--
-- returns  1 somebody had it, 0 nobody
local had = redis.call('DEL', KEYS[1])
hand_on()
return had
