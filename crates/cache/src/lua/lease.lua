-- Takes the lease of a key, unless its entry is there by now or somebody else has it: between two commands they could come or go.
-- Where nothing is there it lies in the entry's place, so that whatever is stored or deleted there ends it; where an entry is there
-- that is still served, it lies beside it, and says which one that was.
--
-- KEYS[1]  entry: string, expires; or a lease: 0xCB, then 0, 1 when others wait for its end, or 2 when its load has failed,
--          then its token (16 bytes)
-- KEYS[2]  lease beside the entry: string, expires; the same, then how that entry began (10 bytes)
-- ARGV[1]  a new token
-- ARGV[2]  life of the lease in milliseconds
-- ARGV[3]  1 to overlook an entry that begins as follows, 0 to overlook none
-- ARGV[4]  how the entry begins that was found and does not count (10 bytes, or all of it), or nothing for whatever is there
-- ARGV[5]  1 when such an entry is served meanwhile, else 0
-- ARGV[6]  1 when whoever asks has something to go on with where a load has just failed, else 0
-- returns  {entry}; {nothing, 0} when the lease is taken; {nothing, milliseconds, beginning} for how long somebody else has it, and
--          how the entry begins that is there; {nothing, -1} where a load has just failed
local function left(lease, key, length)
  local is_lease = type(lease) == 'string' and #lease == length
    and string.byte(lease) == 0xCB and string.find(lease, '^.[012]')
  return is_lease and redis.call('PTTL', key) or 0
end
local entry = redis.pcall('GET', KEYS[1])
local here = left(entry, KEYS[1], 18)
if here > 0 then
  redis.call('SETRANGE', KEYS[1], 1, '1')
  return {false, here}
end
if type(entry) ~= 'string' or entry == '' or string.byte(entry) == 0xCB then
  redis.call('SET', KEYS[1], string.char(0xCB) .. '0' .. ARGV[1], 'PX', ARGV[2])
  return {false, 0}
end
local beginning = string.sub(entry, 1, 10)
if ARGV[3] == '0' or ARGV[4] ~= '' and ARGV[4] ~= beginning then return {entry} end
local lease = redis.pcall('GET', KEYS[2])
local beside = left(lease, KEYS[2], 18 + #beginning)
-- One of an entry that is there no more is of no use.
if beside > 0 and string.sub(lease, 19) == beginning then
  if string.sub(lease, 2, 2) ~= '2' then
    redis.call('SETRANGE', KEYS[2], 1, '1')
    return {false, beside, beginning}
  end
  if ARGV[6] == '1' then return {false, -1} end
end
if ARGV[5] == '0' then
  redis.call('SET', KEYS[1], string.char(0xCB) .. '0' .. ARGV[1], 'PX', ARGV[2])
  return {false, 0}
end
redis.call('SET', KEYS[2], string.char(0xCB) .. '0' .. ARGV[1] .. beginning, 'PX', ARGV[2])
-- Its readers know themselves when it is over, if it says so, and what replaces it is compared with it.
local life = redis.call('PTTL', KEYS[1])
local says_so = string.sub(entry, 1, 2) == string.char(0xCA, 3) and #entry > 20
  and string.sub(entry, 11, 16) ~= string.rep(string.char(0xFF), 6)
if says_so and life >= 0 and life < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {false, 0}
