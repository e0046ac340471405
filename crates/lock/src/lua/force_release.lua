-- Takes a lock from whoever has it, and gives it to the first who waits.
--
-- KEYS[1]  lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease
-- returns  1 somebody had it, 0 nobody
local had = redis.call('DEL', KEYS[1])
hand_on()
return had
