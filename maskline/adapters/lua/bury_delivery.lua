-- ARGV: delivery, its tenant, its new record, ms for which it is kept, most dead letters of a tenant
local _, id, tenant, delivery, keep, most = unpack(ARGV)
if redis.call('HDEL', prefix .. 'deliveries', id) == 0 then
  return 0
end
redis.call('ZREM', prefix .. 'outbox', id)
local now = now_ms()
local letters = prefix .. 'dead_letters:' .. tenant
redis.call('SET', prefix .. 'dead_letter:' .. id, delivery, 'PX', keep)
redis.call('ZADD', letters, now, id)
redis.call('ZREMRANGEBYSCORE', letters, '-inf', now - keep)
for _, oldest in ipairs(redis.call('ZRANGE', letters, 0, -(most + 1))) do
  redis.call('DEL', prefix .. 'dead_letter:' .. oldest)
  redis.call('ZREM', letters, oldest)
end
redis.call('PEXPIRE', letters, keep)
return 1
