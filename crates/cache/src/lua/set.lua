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
local tags = #KEYS / COUNT - 1
local versions, lives = {}, {}
local function version_of(tag, needed, life, new)
  local version, left = versions[tag], lives[tag]
  if not version then
    version = redis.pcall('GET', tag)
    if type(version) ~= 'string' or #version ~= 8 then
      version, left = new, tonumber(life)
      redis.call('SET', tag, version, 'PX', life)
    else
      left = redis.call('PTTL', tag)
    end
  end
  if left < needed then
    redis.call('PEXPIRE', tag, life)
    left = tonumber(life)
  end
  versions[tag], lives[tag] = version, left
  return version
end
return function(entry, ...)
  local given = {...}
  local needed, life = tonumber(given[tags + 3]), given[tags + 4]
  local parts = {given[tags + 1]}
  for n = 1, tags do
    local name, new = given[tags + 3 + 2 * n], given[tags + 4 + 2 * n]
    parts[#parts + 1] = name
    parts[#parts + 1] = version_of(given[n], needed, life, new)
  end
  parts[#parts + 1] = given[tags + 2]
  redis.call('SET', entry, table.concat(parts), 'PX', given[tags + 3])
  return 1
end
