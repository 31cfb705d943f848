-- ARGV: ms since the latest message, most jobs to return
local _, age, limit = unpack(ARGV)
local now = now_ms()
local stale = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'published', '-inf', now - age, 'LIMIT', 0, limit)) do
  redis.call('ZADD', prefix .. 'published', now, id)
  local model, priority = unpack(redis.call('HMGET', record_of(id), 'model', 'priority'))
  stale[#stale + 1] = { id, model, priority }
end
return stale
