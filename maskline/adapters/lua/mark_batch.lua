-- ARGV: id, field, 1 to set it or 0 to remove it; a batch that has ended stays as it is
local _, id, field, is_set = unpack(ARGV)
local changes = redis.call('HEXISTS', batch_of(id), field) ~= tonumber(is_set)
if changes and redis.call('ZSCORE', prefix .. 'batches_active', id) then
  if is_set == '1' then
    redis.call('HSET', batch_of(id), field, 1)
  else
    redis.call('HDEL', batch_of(id), field)
  end
  redis.call('HINCRBY', batch_of(id), 'version', 1)
end
return 1
