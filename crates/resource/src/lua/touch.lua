-- Gives a record that is there a life, in its key and in what finds it.
--
-- KEYS[1]  record: hash; the others as `index.lua` says
-- ARGV[1]  id
-- ARGV[2]  life: none, in or at
-- ARGV[3]  milliseconds from now (in), or since 1970 (at)
-- returns  0 not there, 1 done, 4 the life is over
if not there(KEYS[1], ARGV[1]) then
  return 0
end
local at = ending(ARGV[2], ARGV[3])
if at and at <= now then
  return 4
end
purge(100)
live(ARGV[1], at)
settle()
return 1
