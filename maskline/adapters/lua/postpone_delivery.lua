-- ARGV: delivery, ms
local _, id, delay = unpack(ARGV)
return redis.call('ZADD', prefix .. 'outbox', 'XX', now_ms() + delay, id)
