-- ARGV: delivery, its new record, ms until the next try, its endpoint or '', ms without a try after which failures
--       count anew; returns for how many ms the endpoint has failed
local _, id, delivery, delay, endpoint, gap = unpack(ARGV)
if redis.call('HEXISTS', prefix .. 'deliveries', id) == 0 then
  return 0
end
local now = now_ms()
redis.call('HSET', prefix .. 'deliveries', id, delivery)
redis.call('ZADD', prefix .. 'outbox', now + delay, id)
if endpoint == '' then
  return 0
end
local since, latest = string.match(redis.call('HGET', prefix .. 'failing', endpoint) or '', '(%d+) (%d+)')
if not since or now - latest > tonumber(gap) then
  since = now
end
redis.call('HSET', prefix .. 'failing', endpoint, string.format('%d %d', since, now))
return now - since
