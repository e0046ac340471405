-- Finds the ids of one page in the order of their creation, and how many there are in all.
--
-- KEYS[1]  order, in the place of a record; the others as `index.lua` says
-- ARGV[1]  how many to leave out
-- ARGV[2]  how many at most
-- ARGV[3..]  criteria: u or l, for unique or lookup, and the entry
-- returns  {total, ids}; {-1} when more lives have ended than were removed: ask again
if purge(1000) then
  return {-1}
end
local skip, size = tonumber(ARGV[1]), tonumber(ARGV[2])
if #ARGV == 2 then
  local ids = redis.call('ZRANGE', KEYS[1], decimal(skip), decimal(skip + size - 1))
  return {redis.call('ZCARD', KEYS[1]), ids}
end

local function range(entry)
  -- No byte of an id or a number is 255.
  return '[' .. entry, '(' .. entry .. string.char(255)
end

if #ARGV == 4 and ARGV[3] == 'l' then
  local from, to = range(ARGV[4])
  local members =
    redis.call('ZRANGEBYLEX', lookup, from, to, 'LIMIT', decimal(skip), decimal(size))
  for n, member in ipairs(members) do
    members[n] = string.sub(member, #ARGV[4] + 17)
  end
  return {redis.call('ZLEXCOUNT', lookup, from, to), members}
end

-- The criterion with the fewest records gives the candidates; the others are asked about each of them.
local best, fewest
for n = 3, #ARGV, 2 do
  local count = 1
  if ARGV[n] == 'l' then
    count = redis.call('ZLEXCOUNT', lookup, range(ARGV[n + 1]))
  end
  if not fewest or count < fewest then
    best, fewest = n, count
  end
end
local candidates = {}
if ARGV[best] == 'l' then
  candidates = redis.call('ZRANGEBYLEX', lookup, range(ARGV[best + 1]))
  for n, member in ipairs(candidates) do
    candidates[n] = string.sub(member, #ARGV[best + 1] + 1)
  end
else
  local id = redis.call('HGET', unique, ARGV[best + 1])
  local created = id and redis.call('ZSCORE', KEYS[1], id)
  if created then
    candidates[1] = string.format('%016.0f', tonumber(created)) .. id
  end
end
local total, ids = 0, {}
for _, suffix in ipairs(candidates) do
  local id, matches = string.sub(suffix, 17), true
  for n = 3, #ARGV, 2 do
    if ARGV[n] == 'l' then
      matches = matches and redis.call('ZSCORE', lookup, ARGV[n + 1] .. suffix)
    else
      matches = matches and redis.call('HGET', unique, ARGV[n + 1]) == id
    end
  end
  if matches then
    total = total + 1
    if total > skip and total <= skip + size then
      table.insert(ids, id)
    end
  end
end
return {total, ids}
