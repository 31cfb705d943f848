-- ARGV: id; returns 1 if the items that failed are tried anew
local _, id = unpack(ARGV)
local record = batch_of(id)
local tenant, model, created, failed, retrying =
  unpack(redis.call('HMGET', record, 'tenant', 'model', 'created_ms', 'failed', 'retrying'))
if retrying then
  return 1
end
if redis.call('ZSCORE', prefix .. 'batches_active', id) or tonumber(failed or 0) == 0 then
  return 0
end
for _, key in ipairs(keys_of_batch(id)) do
  redis.call('PERSIST', key)
end
redis.call('HSET', record, 'retrying', 1)
redis.call('HINCRBY', record, 'version', 1)
redis.call('ZADD', prefix .. 'batches_active', created, id)
redis.call('ZADD', prefix .. 'batches_active:' .. model, created, id)
redis.call('ZADD', prefix .. 'batches:' .. tenant, created, id)
return 1
