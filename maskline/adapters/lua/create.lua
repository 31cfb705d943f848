-- ARGV: id, tenant, priority, request, image, input key, input sha256, whether the image is shared,
--       ms until expiry, idempotency key, fingerprint, ms of its memory, events, most jobs that may wait
local _, id, tenant, priority, request, image, input_key, input_sha256, shared,
  expiry, idempotency_key, fingerprint, memory, events, max_queued = unpack(ARGV)

local idempotency = prefix .. 'idempotency:' .. tenant .. ':' .. idempotency_key
if idempotency_key ~= '' then
  local known = redis.call('GET', idempotency)
  if known then
    return { 'known', known }
  end
end
if redis.call('ZCARD', prefix .. 'queue') >= tonumber(max_queued) then
  return { 'full' }
end
local content = tenant .. ':' .. input_sha256
if shared == '1' and redis.call('HGET', prefix .. 'inputs', content) ~= input_key then
  return { 'input_gone' }
end

local now = now_ms()
if input_key ~= '' then
  redis.call('HINCRBY', prefix .. 'input_uses', input_key, 1)
  redis.call('HSETNX', prefix .. 'inputs', content, input_key)
end
if idempotency_key ~= '' then
  redis.call('SET', idempotency, fingerprint .. ' ' .. id, 'PX', memory)
end
redis.call('HSET', record_of(id),
  'tenant', tenant, 'state', 'queued', 'version', 1, 'attempt', 0, 'losses', 0,
  'priority', priority, 'request', request, 'image', image, 'events', events,
  'input_key', input_key, 'input_sha256', input_sha256,
  'created_ms', now, 'expires_ms', now + expiry)
redis.call('ZADD', prefix .. 'jobs:' .. tenant, 0, id)
redis.call('ZADD', prefix .. 'jobs:' .. tenant .. ':queued', 0, id)
redis.call('ZADD', prefix .. 'expiry', now + expiry, id)
enqueue(id, priority, now)
return { 'created', redis.call('HGETALL', record_of(id)) }
