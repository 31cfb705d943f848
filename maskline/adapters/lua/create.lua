-- ARGV: id, tenant, model, priority, request, image, ms until expiry, idempotency key, fingerprint, ms of its memory,
--       events, most jobs that may wait, list of the broker and message for the workers, result fingerprint or '',
--       most jobs of the tenant that may wait or 0
local _, id, tenant, model, priority, request, image, expiry, idempotency_key, fingerprint, memory, events,
  max_queued, list, message, result_fingerprint, max_queued_of_tenant = unpack(ARGV)

if not is_whole() then
  return { 'lost' }
end
local idempotency = prefix .. 'idempotency:' .. tenant .. ':' .. idempotency_key
if idempotency_key ~= '' then
  local known = redis.call('GET', idempotency)
  if known then
    return { 'known', known }
  end
end
if redis.call('EXISTS', record_of(id)) == 1 then
  return { 'there' }
end
if redis.call('ZCARD', prefix .. 'published') >= tonumber(max_queued) then
  return { 'full' }
end
local most = tonumber(max_queued_of_tenant)
if most > 0 and redis.call('ZCARD', prefix .. 'jobs:' .. tenant .. ':queued') >= most then
  return { 'tenant_full' }
end
if idempotency_key ~= '' then
  redis.call('SET', idempotency, fingerprint .. ' ' .. id, 'PX', memory)
end

local now = now_ms()
redis.call('HSET', record_of(id),
  'tenant', tenant, 'state', 'queued', 'version', 1, 'attempt', 0,
  'model', model, 'priority', priority, 'request', request, 'image', image, 'events', events,
  'created_ms', now, 'expires_ms', now + expiry, 'result_fingerprint', result_fingerprint)
redis.call('ZADD', prefix .. 'jobs:' .. tenant .. ':queued', 0, id)
redis.call('ZADD', prefix .. 'expiry', now + expiry, id)
enqueue(id, now)
if message ~= '' then
  redis.call('LPUSH', list, message)
end
return { 'created', now, place_of(id) }
