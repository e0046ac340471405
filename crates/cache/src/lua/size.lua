-- Returns how many bytes a key takes in the server's memory, which no typed call of core-conn asks for.
--
-- KEYS[1]  entry: string, expires
-- returns  the bytes, 0 where it is not there
return redis.call('MEMORY', 'USAGE', KEYS[1]) or 0
