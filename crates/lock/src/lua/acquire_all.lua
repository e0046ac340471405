-- Takes all of some locks of a partition that are free and for which nobody waits, or none: no command looks at all of them at once.
-- Asked again by the tokens that have them, it answers the same.
--
-- KEYS[1]  fence: string, the last fence of the partition; expires after its memory
-- KEYS[2..]  for each a lock: string of the fence (8 bytes), the token (16) and the holder; expires with its lease; and the queue of who
--            waits for it
-- ARGV[1]  memory of the fence in milliseconds
-- ARGV[2..]  for each who asks: token (16 bytes), mailbox (16), lease in milliseconds (8), weight (4), holder
-- returns  {1, their fences}, or {0, those of the locks that the tokens have} where one is not free
local fences, free = {}, true
for n = 2, #ARGV do
  local lock, queue = KEYS[2 * n - 2], KEYS[2 * n - 1]
  local value = redis.call('GET', lock)
  if value and string.sub(value, 9, 24) == string.sub(ARGV[n], 1, 16) then
    fences[#fences + 1] = (struct.unpack('>I8', value))
  end
  free = free and not value and redis.call('EXISTS', queue) == 0
end
if #fences == #ARGV - 1 then
  return {1, fences}
elseif not free then
  return {0, fences}
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[1]) or '')
-- Beyond 2^53 a number has no successor here.
local fence = last and last >= now and last < 9007199254740991 - #ARGV and last + 1 or now
local life = redis.call('PTTL', KEYS[1])
for n = 2, #ARGV do
  local lease = (struct.unpack('>I8', ARGV[n], 33))
  fences[n - 1], life = fence + n - 2, math.max(life, ARGV[1] + lease)
end
-- Noted before what it numbers.
redis.call('SET', KEYS[1], string.format('%.0f', fences[#fences]), 'PX', string.format('%.0f', life))
for n = 2, #ARGV do
  local lease = (struct.unpack('>I8', ARGV[n], 33))
  local value = struct.pack('>I8', fences[n - 1]) .. string.sub(ARGV[n], 1, 16) .. string.sub(ARGV[n], 45)
  redis.call('SET', KEYS[2 * n - 2], value, 'PX', string.format('%.0f', lease))
end
return {1, fences}
