-- ARGV: id, tenant, request, progress, ms since 1970, most batches that may be active
local _, id, tenant, request, progress, created, max_active = unpack(ARGV)
if redis.call('ZCARD', prefix .. 'batches_active') >= tonumber(max_active) then
  return 0
end
redis.call('HSET', prefix .. 'batch:' .. id,
  'tenant', tenant, 'request', request, 'progress', progress, 'created_ms', created, 'version', 1)
redis.call('ZADD', prefix .. 'batches_active', 0, id)
redis.call('ZADD', prefix .. 'batches:' .. tenant, 0, id)
return 1
