-- ARGV: model, worker, ms of the lease
-- Returns batch, tenant, request, number, attempt, plan, and what there is to know of it; false where none waits.
local _, model, worker, lease = unpack(ARGV)
local epoch = redis.call('GET', prefix .. 'epoch')
if not epoch then
  return false
end
local served = prefix .. 'served:' .. model
local chosen, tenant, turn
local looked_at = {}
for _, id in ipairs(redis.call('ZRANGE', prefix .. 'batches_active:' .. model, 0, -1)) do
  local of, paused, cancelling = unpack(redis.call('HMGET', batch_of(id), 'tenant', 'paused', 'cancelling'))
  if not paused and not cancelling and not looked_at[of]
    and redis.call('EXISTS', prefix .. 'chunks_ready:' .. id) == 1 then
    looked_at[of] = true
    local last = tonumber(redis.call('HGET', served, of) or 0)
    if not turn or last < turn then
      chosen, tenant, turn = id, of, last
    end
  end
end
if not chosen then
  return false
end
redis.call('HSET', served, tenant, redis.call('INCR', prefix .. 'turn'))
local number = redis.call('ZPOPMIN', prefix .. 'chunks_ready:' .. chosen)[1]
local plan = redis.call('HGET', prefix .. 'chunks:' .. chosen, number)
local chunk = chunk_of(chosen, number)
local before = tonumber(redis.call('HGET', chunk, 'attempt') or 0)
local attempt = math.max(before, (epoch - 1) * 1000) + 1  -- above those of every memory before
local items = cjson.decode(plan).items
redis.call('HSET', chunk, 'attempt', attempt, 'worker', worker, 'items', items)
redis.call('HINCRBY', batch_of(chosen), 'running', items)
redis.call('ZADD', prefix .. 'chunk_leases', now_ms() + lease, lease_of(chosen, number, attempt))
return { chosen, tenant, redis.call('HGET', batch_of(chosen), 'request'), number, attempt, plan,
  redis.call('HGETALL', chunk) }
