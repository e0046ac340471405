-- Removes what finds a record whose key went by another hand, unless it is there again.
--
-- KEYS[1]  record: hash; the others as `index.lua` says
-- ARGV[1]  id
-- returns  1 when it was not there, 0 when it is
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
forget(ARGV[1])
settle()
return 1
