-- ARGV: delivery, its endpoint or '' if that does not count as working again
local _, id, endpoint = unpack(ARGV)
redis.call('ZREM', prefix .. 'outbox', id)
redis.call('HDEL', prefix .. 'deliveries', id)
if endpoint ~= '' then
  redis.call('HDEL', prefix .. 'failing', endpoint)
end
return 1
