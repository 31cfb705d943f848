-- ARGV: id, tenant, model, request, progress, ms since 1970, most batches that may be active, parts,
--       1 if there are no more parts to come, 1 if its failed items are to be tried anew, most of the tenant's
--       that may be active; returns what refusal_of_batch does, or 1
local _, id, tenant, model, request, progress, created, max_active, parts, complete, retrying, max_of_tenant =
  unpack(ARGV)
if redis.call('EXISTS', batch_of(id)) == 1 then
  return 1
end
local refusal = refusal_of_batch(tenant, max_active, max_of_tenant)
if refusal then
  return refusal
end
redis.call('HSET', batch_of(id), 'tenant', tenant, 'model', model, 'request', request, 'progress', progress,
  'created_ms', created, 'parts', parts, 'version', 1)
if complete == '1' then
  redis.call('HSET', batch_of(id), 'complete', 1)
end
if retrying == '1' then
  redis.call('HSET', batch_of(id), 'retrying', 1)
end
redis.call('ZADD', prefix .. 'batches_active', created, id)
redis.call('ZADD', prefix .. 'batches_active:' .. model, created, id)
redis.call('ZADD', prefix .. 'batches:' .. tenant, created, id)
return 1
