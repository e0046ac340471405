-- Finds the lease that is held under a token: what stands before `renew.lua`, `store.lua` and `release.lua`.
--
-- KEYS[1]  entry: string, expires; or the lease
-- KEYS[2]  lease beside the entry: string, expires
-- ARGV[1]  token of the lease
-- returns  nothing; `here` is the lease where it lies in the entry's place, `lease` is it in either place, and false where it was ended
local function lease_at(key)
  local lease = redis.pcall('GETRANGE', key, 0, 27)
  local is_it = type(lease) == 'string' and string.byte(lease) == 0xCB and string.sub(lease, 3, 18) == ARGV[1]
  return is_it and lease
end
local here = lease_at(KEYS[1])
local lease = here or lease_at(KEYS[2])
