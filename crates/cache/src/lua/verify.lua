-- Tells whether an entry is still the one that its caller has, and gives what is there otherwise. One run serves all who ask at the same
-- time.
--
-- Of each caller:
-- KEYS[1]  entry: string
-- ARGV[1]  the mark of what the caller has (8 bytes)
-- returns  1 where it is that; otherwise what is there, or nothing
return function(entry, mark)
  if redis.pcall('GETRANGE', entry, 2, 9) == mark then return 1 end
  local there = redis.pcall('GET', entry)
  -- Another type counts as nothing, as where it is read by itself.
  return type(there) == 'string' and there
end
