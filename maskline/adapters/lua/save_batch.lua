-- ARGV: id, version that was read, progress, 1 if the batch has ended, ms to keep it then, event that this is or '' and its number,
--       parts that are new, 1 if this begins a round, number of the first of the chunks that follow;
--       then for each chunk: its plan, how many items it has, and how it ended or ''
-- There may be thousands of chunks, which are more than unpack can take.
local _, id, version, progress, ended, keep, event_type, event_number, parts, is_round, first = unpack(ARGV, 1, 11)
local record = batch_of(id)
local tenant, model, current = unpack(redis.call('HMGET', record, 'tenant', 'model', 'version'))
if current ~= version then
  return 0
end
local now = now_ms()
redis.call('HSET', record, 'progress', progress, 'version', version + 1)
redis.call('HINCRBY', record, 'parts', parts)
if is_round == '1' then
  redis.call('HDEL', record, 'retrying')
  redis.call('HSET', record, 'failed', 0)
  for _, name in ipairs(redis.call('HKEYS', prefix .. 'chunk_sums:' .. id)) do
    if string.sub(name, 1, 6) == 'error:' then
      redis.call('HDEL', prefix .. 'chunk_sums:' .. id, name)
    end
  end
end
for i = 12, #ARGV, 3 do
  local number = first + (i - 12) / 3
  if ARGV[i + 2] == '' then
    redis.call('HSET', prefix .. 'chunks:' .. id, number, ARGV[i])
    redis.call('ZADD', prefix .. 'chunks_ready:' .. id, number, number)
  else
    end_chunk(id, number, cjson.decode(ARGV[i + 2]).attempt, ARGV[i + 1], ARGV[i + 2], now)
  end
end
if event_type ~= '' then
  emit(event_type, tenant, id, event_number, version + 1, '', now)
end
if ended == '1' then
  redis.call('ZREM', prefix .. 'batches_active', id)
  redis.call('ZREM', prefix .. 'batches_active:' .. model, id)
  for _, number in ipairs(redis.call('HKEYS', prefix .. 'chunks:' .. id)) do
    redis.call('DEL', chunk_of(id, number))
  end
  redis.call('DEL', prefix .. 'chunks:' .. id, prefix .. 'chunks_ready:' .. id)
  redis.call('HDEL', record, 'running', 'paused', 'retrying')
  for _, key in ipairs(keys_of_batch(id)) do
    redis.call('PEXPIRE', key, keep)
  end
end
return 1
