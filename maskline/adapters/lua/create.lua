-- ARGV: id, tenant, model, priority, request, image, ms until expiry, idempotency key, fingerprint, ms of its memory,
--       events, most jobs that may wait, list of the broker and message for the workers, result fingerprint or '',
--       most jobs of the tenant that may wait or 0
local _, id, tenant, model, priority, request, image, expiry, idempotency_key, fingerprint, memory, events,
  max_queued, list, message, result_fingerprint, max_queued_of_tenant = unpack(ARGV)

if not is_whole() then
  return { 'lost' }
end
local idempotency = idempotency_of(tenant, idempotency_key)
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
if most > 0 and redis.call('ZCARD', jobs_of(tenant, 'queued')) >= most then
  return { 'tenant_full' }
end
if idempotency_key ~= '' then
  redis.call('SET', idempotency, fingerprint .. ' ' .. id, 'PX', memory)
end

local now = now_ms()
add_job(id, tenant, 'queued', now + expiry, {
  'version', 1, 'attempt', 0, 'model', model, 'priority', priority, 'request', request, 'image', image,
  'events', events, 'created_ms', now, 'result_fingerprint', result_fingerprint,
})
enqueue(id, now)
if message ~= '' then
  redis.call('LPUSH', list, message)
end
return { 'created', now, place_of(id) }
