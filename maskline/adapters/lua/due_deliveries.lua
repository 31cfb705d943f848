-- ARGV: most deliveries, ms for which they are hidden
local _, limit, hidden = unpack(ARGV)
local now = now_ms()
local due = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'outbox', '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZADD', prefix .. 'outbox', now + hidden, id)
  due[#due + 1] = redis.call('HGET', prefix .. 'deliveries', id)
end
return due
