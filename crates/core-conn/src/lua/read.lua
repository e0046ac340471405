-- Runs one command, so that its reply comes nested whatever it holds.
--
-- KEYS[1]  key: of the type that the command works on
-- ARGV[1]  name of the command
-- ARGV[2…] its arguments after the key
-- returns  the reply of the command
return redis.pcall(ARGV[1], KEYS[1], unpack(ARGV, 2))
