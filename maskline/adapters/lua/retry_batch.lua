-- ARGV: id, most batches that may be active, and most of the tenant's
-- Returns 1 if the items that failed are tried anew, 0 if there are none to be, or what refusal_of_batch does.
local _, id, max_active, max_of_tenant = unpack(ARGV)
local record = batch_of(id)
local tenant, model, created, failed, retrying, progress =
  unpack(redis.call('HMGET', record, 'tenant', 'model', 'created_ms', 'failed', 'retrying', 'progress'))
if retrying then
  return 1
end
if not progress or cjson.decode(progress).state ~= 'succeeded' or tonumber(failed or 0) == 0 then
  return 0
end
local refusal = refusal_of_batch(tenant, max_active, max_of_tenant)
if refusal then
  return refusal
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
