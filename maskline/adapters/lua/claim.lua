-- ARGV: id, worker, ms of the lease
local _, id, worker, lease = unpack(ARGV)
local record = record_of(id)
if redis.call('HGET', record, 'state') ~= 'queued' then
  return false
end
local now = now_ms()
if tonumber(redis.call('HGET', record, 'expires_ms')) <= now then
  return false
end
redis.call('HINCRBY', record, 'attempt', 1)
redis.call('HSET', record, 'worker', worker, 'started_ms', now)
move(id, 'running', now)
redis.call('ZADD', prefix .. 'leases', now + lease, id)
return redis.call('HGETALL', record)
