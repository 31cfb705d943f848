-- ARGV: id
local _, id = unpack(ARGV)
local tenant, model = unpack(redis.call('HMGET', batch_of(id), 'tenant', 'model'))
if tenant then
  redis.call('ZREM', prefix .. 'batches_active', id)
  redis.call('ZREM', prefix .. 'batches_active:' .. model, id)
  redis.call('ZREM', prefix .. 'batches:' .. tenant, id)
end
for _, number in ipairs(redis.call('HKEYS', prefix .. 'chunks:' .. id)) do
  redis.call('DEL', chunk_of(id, number))
end
redis.call('DEL', unpack(keys_of_batch(id)))
return 1
