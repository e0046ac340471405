-- Stores a record, or some of its fields, only if it is there or not there as wanted and no other record has its unique values.
--
-- KEYS[1]  record: hash; the others as `index.lua` says
-- ARGV[1]  id
-- ARGV[2]  create, save, replace or update
-- ARGV[3]  life: keep, none, in or at
-- ARGV[4]  milliseconds from now (in), or since 1970 (at)
-- ARGV[5]  the header of the values, which stands in the field NUL
-- ARGV[6]  how many names of indexed fields the update touches
-- ARGV[7]  how many unique entries
-- ARGV[8]  how many lookup entries
-- ARGV[9..]  these names and entries, then field and value of each field
-- returns  {0} not as wanted; {1} created; {2, nil, nil, fields of an update} replaced or updated; {3, n, id} the nth unique entry is that id's;
--          {4} the life is over; {5} of another format
local id, mode = ARGV[1], ARGV[2]
local whole = mode ~= 'update'
local is_there, foreign = there(KEYS[1], id)
if foreign and mode ~= 'save' then
  redis.call('HLEN', KEYS[1]) -- Is the error that says so.
end
if is_there and mode == 'create' or not is_there and (mode == 'replace' or mode == 'update') then
  return {0}
end
if mode == 'update' and redis.call('HGET', KEYS[1], '\0') ~= ARGV[5] then
  return {5}
end
local at = ending(ARGV[3], ARGV[4])
if at and at <= now then
  return {4}
end

local next_arg = 9
local function take(count)
  local taken = {}
  for n = 1, tonumber(count) do
    taken[n] = ARGV[next_arg]
    next_arg = next_arg + 1
  end
  return taken
end
local names, uniques, lookups = take(ARGV[6]), take(ARGV[7]), take(ARGV[8])

for n, entry in ipairs(uniques) do
  local holder = redis.call('HGET', unique, entry)
  -- One whose life has ended lets go of its entries when it is forgotten, and only of those that it still has.
  if holder and holder ~= id and not expired(holder) then
    return {3, n, holder}
  end
end

-- The first change, SET or HSET, is one that a full server refuses, and with it all others.
if foreign then
  redis.call('SET', KEYS[1], '')
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], '\0', ARGV[5])
purge(100)
if not is_there then
  forget(id)
end
local created = redis.call('ZSCORE', order, id)
if not created then
  created = micros
  redis.call('ZADD', order, decimal(created), id)
  local left = not whole and redis.call('PTTL', KEYS[1]) or -1
  if left >= 0 then
    redis.call('ZADD', expiry, decimal(now + left), id)
  end
end

local function touched(entry)
  if whole then
    return true
  end
  for _, name in ipairs(names) do
    if string.sub(entry, 1, #name) == name then
      return true
    end
  end
  return false
end

if whole or #names > 0 then
  local suffix = string.format('%016.0f', tonumber(created)) .. id
  local old, new = entries_of(id), {{}, {}}
  for _, entry in ipairs(old[1]) do
    if touched(entry) then
      release(id, entry)
    else
      table.insert(new[1], entry)
    end
  end
  for _, member in ipairs(old[2]) do
    if touched(member) then
      redis.call('ZREM', lookup, member)
    else
      table.insert(new[2], member)
    end
  end
  for _, entry in ipairs(uniques) do
    redis.call('HSET', unique, entry, id)
    table.insert(new[1], entry)
  end
  for _, entry in ipairs(lookups) do
    redis.call('ZADD', lookup, 0, entry .. suffix)
    table.insert(new[2], entry .. suffix)
  end
  if #new[1] + #new[2] > 0 then
    redis.call('HSET', entries, id, cmsgpack.pack(new))
  else
    redis.call('HDEL', entries, id)
  end
end

if whole then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], '\0', ARGV[5])
end
-- Lua takes some thousands of arguments apart at once, and no more.
for first = next_arg, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
-- A short life can be over before this ends.
local fields = not whole and redis.call('HGETALL', KEYS[1])
if ARGV[3] ~= 'keep' then
  live(id, at)
end
settle()
return {is_there and 2 or 1, false, false, fields}
