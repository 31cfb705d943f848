-- ARGV: id, version that was read, progress, 1 if the batch has ended, ms to keep it then
local _, id, version, progress, ended, keep = unpack(ARGV)
local record = prefix .. 'batch:' .. id
if redis.call('HGET', record, 'version') ~= version then
  return 0
end
redis.call('HSET', record, 'progress', progress, 'version', version + 1)
if ended == '1' then
  redis.call('ZREM', prefix .. 'batches_active', id)
  redis.call('PEXPIRE', record, keep)
end
return 1
