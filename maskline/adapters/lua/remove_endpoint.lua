-- ARGV: id, tenant
local _, id, tenant = unpack(ARGV)
if redis.call('HDEL', prefix .. 'endpoints:' .. tenant, id) == 1 then
  redis.call('HDEL', prefix .. 'listeners:' .. tenant, id)
  redis.call('HDEL', prefix .. 'failing', id)
end
return 1
