-- ARGV: delivery, its new record, ms until the next try, its tenant, its endpoint or '', ms without a try after which
--       failures count anew
-- Returns for how many ms the endpoint has failed; one that was removed or disabled meanwhile does not.
local _, id, delivery, delay, tenant, endpoint, gap = unpack(ARGV)
if redis.call('HEXISTS', prefix .. 'deliveries', id) == 0 then
  return 0
end
local now = now_ms()
redis.call('HSET', prefix .. 'deliveries', id, delivery)
redis.call('ZADD', prefix .. 'outbox', now + delay, id)
if endpoint == '' or redis.call('HEXISTS', prefix .. 'listeners:' .. tenant, endpoint) == 0 then
  return 0
end
local since, latest = string.match(redis.call('HGET', prefix .. 'failing', endpoint) or '', '(%d+) (%d+)')
if not since or now - latest > tonumber(gap) then
  since = now
end
redis.call('HSET', prefix .. 'failing', endpoint, string.format('%d %d', since, now))
return now - since
