-- ARGV: work, holder, ms
local _, work, holder, lasting = unpack(ARGV)
local key = prefix .. 'leader:' .. work
local leader = redis.call('GET', key)
if leader and leader ~= holder then
  return 0
end
redis.call('SET', key, holder, 'PX', lasting)
return 1
