-- Reads records whole, each with an error of its own, in one round trip.
--
-- KEYS[1]  record: hash
-- KEYS[2..]  more of them
-- returns  a list for each record: its fields and values, none when it is not there; or an error
local found = {redis.pcall('HGETALL', KEYS[1])}
for n = 2, #KEYS do
  found[n] = redis.pcall('HGETALL', KEYS[n])
end
return found
