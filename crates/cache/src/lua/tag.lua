-- Returns the version of a tag, making one where there is none, which two loaders must not do differently.
--
-- KEYS[1]  tag: string of 8 bytes, expires
-- ARGV[1]  a new version, used when there is none
-- ARGV[2]  how long an entry will need it, in milliseconds
-- ARGV[3]  life that it is given when it has less than that, in milliseconds
-- returns  {version, milliseconds for which it is there}
local version = redis.pcall('GET', KEYS[1])
if type(version) ~= 'string' or #version ~= 8 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
  return {ARGV[1], tonumber(ARGV[3])}
end
local left = redis.call('PTTL', KEYS[1])
if left < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  left = tonumber(ARGV[3])
end
return {version, left}
