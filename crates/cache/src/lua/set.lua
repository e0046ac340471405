-- Stores an entry with the versions that its tags have, making those that are missing, and ends its lease: what plain commands do in
-- two round trips. Tells those who wait for the end of the lease.
--
-- KEYS[1]  entry: string, expires
-- KEYS[2]  lease: string, expires
-- KEYS[3..]  tags: strings of 8 bytes, expire
-- ARGV[1]  the entry before the moment until which it is fresh
-- ARGV[2]  for how long that is, in milliseconds
-- ARGV[3]  time to live of the entry in milliseconds
-- ARGV[4]  life that a tag is given when it has less than that, in milliseconds
-- ARGV[5]  the entry between that moment and its tags
-- ARGV[6]  the entry behind its tags
-- ARGV[7..]  for each tag its length and name as they stand in the entry, and a new version, used when there is none
-- returns  1
local tags = {}
for n = 3, #KEYS do
  local name, version = ARGV[2 * n + 1], redis.pcall('GET', KEYS[n])
  if type(version) ~= 'string' or #version ~= 8 then
    version = ARGV[2 * n + 2]
    redis.call('SET', KEYS[n], version, 'PX', ARGV[4])
  elseif redis.call('PTTL', KEYS[n]) < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[n], ARGV[4])
  end
  tags[#tags + 1] = name .. version
end
-- Without the right to know the time, it is fresh as long as it is there.
local now, fresh = redis.pcall('TIME'), 281474976710655
if not now.err then fresh = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2] end
local entry = ARGV[1] .. struct.pack('>I6', fresh) .. ARGV[5] .. table.concat(tags) .. ARGV[6]
local lease = redis.pcall('GET', KEYS[2])
redis.call('SET', KEYS[1], entry, 'PX', ARGV[3])
redis.call('UNLINK', KEYS[2])
if type(lease) == 'string' and string.sub(lease, 1, 1) == '1' then
  redis.pcall('PUBLISH', KEYS[2], '')
end
return 1
