-- ARGV: ms since the end, most ids to return
local _, age, limit = unpack(ARGV)
return redis.call('ZRANGEBYSCORE', prefix .. 'unnoted', '-inf', now_ms() - age, 'LIMIT', 0, limit)
