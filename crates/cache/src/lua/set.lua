-- Stores an entry with the versions that its tags have, making those that are missing: what plain commands do in two round trips.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2..]  tags: strings of 8 bytes, expire
-- ARGV[1]  the entry before its tags
-- ARGV[2]  the entry behind them
-- ARGV[3]  time to live of the entry in milliseconds
-- ARGV[4]  life that a tag is given when it has less than the entry, in milliseconds
-- ARGV[5..]  for each tag its length and name as they stand in the entry, and a new version, used when there is none
-- returns  1
local tags = {}
for n = 2, #KEYS do
  local name, version = ARGV[2 * n + 1], redis.pcall('GET', KEYS[n])
  if type(version) ~= 'string' or #version ~= 8 then
    version = ARGV[2 * n + 2]
    redis.call('SET', KEYS[n], version, 'PX', ARGV[4])
  elseif redis.call('PTTL', KEYS[n]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[n], ARGV[4])
  end
  tags[#tags + 1] = name .. version
end
redis.call('SET', KEYS[1], ARGV[1] .. table.concat(tags) .. ARGV[2], 'PX', ARGV[3])
return 1
