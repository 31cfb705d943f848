-- ARGV: model; returns how many of its chunks wait, and how many are held
local _, model = unpack(ARGV)
local waiting, held = 0, 0
for _, id in ipairs(redis.call('ZRANGE', prefix .. 'batches_active:' .. model, 0, -1)) do
  if redis.call('HEXISTS', batch_of(id), 'paused') == 0 then
    waiting = waiting + redis.call('ZCARD', prefix .. 'chunks_ready:' .. id)
  end
end
for _, member in ipairs(redis.call('ZRANGE', prefix .. 'chunk_leases', 0, -1)) do
  if redis.call('HGET', batch_of(string.match(member, '^[^/]+')), 'model') == model then
    held = held + 1
  end
end
return { waiting, held }
