-- Takes part in the lease of a key, unless its entry is there by now: between two commands it could come or go.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- ARGV[1]  a new token, used when there is no lease yet
-- ARGV[2]  life of the lease in milliseconds
-- ARGV[3]  1 to overlook an entry that begins as follows, 0 to overlook none
-- ARGV[4]  how the entry begins that was found and does not count
-- returns  {entry}, or {nothing, token}
local entry = redis.pcall('GET', KEYS[1])
if type(entry) == 'string' then
  local overlooked = ARGV[3] == '1' and string.sub(entry, 1, #ARGV[4]) == ARGV[4]
  if not overlooked then return {entry} end
end
local lease = redis.pcall('GET', KEYS[2])
if type(lease) == 'string' then
  if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
  return {false, lease}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {false, ARGV[1]}
