-- Runs one command, so that its reply comes nested whatever it holds.
--
-- KEYS[1]  key: of the type that the command works on
-- ARGV[1..]  the name of the command, then its arguments after the key
-- returns  the reply of the command
return redis.pcall(ARGV[1], KEYS[1], unpack(ARGV, 2))
