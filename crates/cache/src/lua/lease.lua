-- Takes the lease of a key, unless its entry is there by now or somebody else has it: between two commands they could come or go.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string of 17 bytes, expires; first 0, 1 when others wait for its end, or 2 when its load has failed; then its token
-- ARGV[1]  a new token
-- ARGV[2]  life of the lease in milliseconds
-- ARGV[3]  1 to overlook an entry that begins as follows, 0 to overlook none
-- ARGV[4]  how the entry begins that was found and does not count
-- ARGV[5]  1 when whoever asks has something to go on with where a load has just failed, else 0
-- returns  {entry}; {nothing, 0} when the lease is taken; {nothing, milliseconds, beginning} for how long somebody else has it, and
--          how the entry begins that is there; {nothing, -1} where a load has just failed
local entry = redis.pcall('GET', KEYS[1])
if type(entry) == 'string' then
  local overlooked = ARGV[3] == '1' and string.sub(entry, 1, #ARGV[4]) == ARGV[4]
  if not overlooked then return {entry} end
end
local lease = redis.pcall('GET', KEYS[2])
local left = type(lease) == 'string' and #lease == 17 and redis.call('PTTL', KEYS[2]) or 0
if left > 0 then
  local first = string.sub(lease, 1, 1)
  if first ~= '2' then
    if first ~= '1' then redis.call('SETRANGE', KEYS[2], 0, '1') end
    return {false, left, type(entry) == 'string' and string.sub(entry, 1, 10)}
  end
  if ARGV[5] == '1' then return {false, -1} end
end
redis.call('SET', KEYS[2], '0' .. ARGV[1], 'PX', ARGV[2])
return {false, 0}
