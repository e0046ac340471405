-- Changes fields of a session that exists and, where asked, is still in the version that was read; HSET would create it.
--
-- KEYS[1]  session: hash, expires
-- ARGV[1]  version that was read, empty for any
-- ARGV[2]  1 removes the metadata that is not written now, 0 leaves it
-- ARGV[3]  how many fields are written
-- ARGV[4..]  those fields and their values by turns, then the fields to be removed
-- returns  0 there is no session, 1 written, 2 it is in another version; and the version
local fields = redis.call('HMGET', KEYS[1], 'user', 'version')
local user, version = fields[1], fields[2]
if not user then
  return {0, 0}
end
version = version and #version < 16 and string.find(version, '^%d+$') and tonumber(version)
if not version then
  return redis.error_reply('-DAMAGED the version of the session is no number')
end
if ARGV[1] ~= '' and tonumber(ARGV[1]) ~= version then
  return {2, version}
end
version = version + 1
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version))
local removed = 4 + 2 * ARGV[3]
local written = {}
for n = 4, removed - 1, 2 do
  redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
  written[ARGV[n]] = true
end
for n = removed, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[n])
end
if ARGV[2] == '1' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'm:' and not written[field] then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
return {1, version}
