-- ARGV: id, version that was read, progress, 1 if the batch has ended, ms to keep it then, event that this is or ''
local _, id, version, progress, ended, keep, event_type = unpack(ARGV)
local record = prefix .. 'batch:' .. id
local tenant, current = unpack(redis.call('HMGET', record, 'tenant', 'version'))
if current ~= version then
  return 0
end
redis.call('HSET', record, 'progress', progress, 'version', version + 1)
if event_type ~= '' then
  emit(event_type, tenant, id, 0, version + 1, '', now_ms())
end
if ended == '1' then
  redis.call('ZREM', prefix .. 'batches_active', id)
  redis.call('PEXPIRE', record, keep)
end
return 1
