-- Stores entries with the versions that their tags have, making those that are missing: what plain commands do in two round trips. One
-- run serves all who store at the same time, and reads a tag that several of them name once.
--
-- Of each caller, who has as many tags as the others:
-- KEYS[1]  entry: string, expires
-- KEYS[2..]  tags: strings of 8 bytes, expire
-- ARGV[1]  the entry before its tags
-- ARGV[2]  the entry behind them
-- ARGV[3]  time to live of the entry in milliseconds
-- ARGV[4]  life that a tag is given when it has less than the entry, in milliseconds
-- ARGV[5..]  for each tag its length and name as they stand in the entry, and a new version, used when there is none
-- returns  1
local count = #KEYS / COUNT - 1
local known = {}
local function version_of(tag, needed, life, new)
  local it = known[tag]
  if not it then
    local version = redis.pcall('GET', tag)
    if type(version) ~= 'string' or #version ~= 8 then
      redis.call('SET', tag, new, 'PX', life)
      it = {version = new, left = tonumber(life)}
    else
      it = {version = version, left = redis.call('PTTL', tag)}
    end
    known[tag] = it
  end
  if it.left < needed then
    redis.call('PEXPIRE', tag, life)
    it.left = tonumber(life)
  end
  return it.version
end
return function(entry, ...)
  local given = {...}
  local needed, life = given[count + 3], given[count + 4]
  local parts = {given[count + 1]}
  for n = 1, count do
    local name, new = given[count + 3 + 2 * n], given[count + 4 + 2 * n]
    parts[#parts + 1] = name
    parts[#parts + 1] = version_of(given[n], tonumber(needed), life, new)
  end
  parts[#parts + 1] = given[count + 2]
  redis.call('SET', entry, table.concat(parts), 'PX', needed)
  return 1
end
