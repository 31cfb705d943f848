-- ARGV: id
local _, id = unpack(ARGV)
if redis.call('ZSCORE', prefix .. 'batches_active', id) then
  redis.call('HSET', prefix .. 'batch:' .. id, 'cancelling', 1)
end
return 1
