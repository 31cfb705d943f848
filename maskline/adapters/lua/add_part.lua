-- ARGV: id, number of the part
-- Returns 1 if the batch has the part now, 0 if it takes none, -1 if parts are missing before it.
local _, id, part = unpack(ARGV)
local parts, complete = unpack(redis.call('HMGET', batch_of(id), 'parts', 'complete'))
if tonumber(part) <= tonumber(parts) then
  return 1
end
if complete or not redis.call('ZSCORE', prefix .. 'batches_active', id) then
  return 0
end
if tonumber(part) > tonumber(parts) + 1 then
  return -1
end
redis.call('HSET', batch_of(id), 'parts', part)
redis.call('HINCRBY', batch_of(id), 'version', 1)
return 1
