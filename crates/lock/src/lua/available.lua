-- Counts the permits that are out by the server's clock, which no command sums up.
--
-- KEYS[1]  permits: sorted set of tokens by the end of their lease in milliseconds; expires with the last of them
-- KEYS[2]  shares: hash of what each token has; `out` is the sum of the weights
-- returns  how many are out
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local members = redis.call('ZCARD', KEYS[1])
local out = tonumber(redis.call('HGET', KEYS[2], 'out') or '') or 0
for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local share = redis.call('HGET', KEYS[2], token)
  members = members - 1
  out = out - (share and #share >= 12 and struct.unpack('>I4', share, 9) or 1)
end
return members > 0 and math.max(members, out) or 0
