-- ARGV: id, tenant, model, priority, request, image, events, ms since 1970 at which it was accepted, expires, and
--       ended (or ''), state, version, attempt, failure or '', result fingerprint or '', idempotency key or '',
--       fingerprint, ms of its memory, ms since 1970 after which an end is told of once more,
--       rebuild
-- A job that is there stays as it is. Returns 1 if this one was not, 0 if it was, -1 if the rebuild was overtaken.
local _, id, tenant, model, priority, request, image, events, created, expires, finished, state, version, attempt,
  failure, result_fingerprint, idempotency_key, fingerprint, memory, tell_after, rebuild = unpack(ARGV)
local record = record_of(id)
if not is_rebuilt_by(rebuild) then
  return -1
end
-- What is due to be removed was deleted meanwhile.
if redis.call('EXISTS', record) == 1 or redis.call('ZSCORE', prefix .. 'expiry', id) then
  return 0
end
add_job(id, tenant, state, expires, {
  'version', version, 'attempt', attempt, 'model', model, 'priority', priority, 'request', request, 'image', image,
  'events', events, 'created_ms', created, 'result_fingerprint', result_fingerprint,
})
-- Of submissions with one key all but the latest were not accepted, or not known to be by who made the next.
if idempotency_key ~= '' and tonumber(memory) > 0 then
  local idempotency = idempotency_of(tenant, idempotency_key)
  local known = redis.call('GET', idempotency)
  if not known or string.match(known, '%S+$') < id then
    redis.call('SET', idempotency, fingerprint .. ' ' .. id, 'PX', memory)
  end
end
if state == 'queued' then
  enqueue(id, created)
  redis.call('ZADD', prefix .. 'published', 0, id)  -- no message stands for it
  return 1
end
redis.call('HSET', record, 'queued_ms', created, 'finished_ms', finished)
if failure ~= '' then
  redis.call('HSET', record, 'failure', failure)
end
if state == 'succeeded' then
  remember_result(id)
end
if tonumber(finished) > tonumber(tell_after) then
  emit(EVENT_OF[state], tenant, id, attempt, version, events, tonumber(finished))
end
return 1
