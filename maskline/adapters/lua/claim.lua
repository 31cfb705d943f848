-- ARGV: model and priority of the wanted kind, worker, ms of the lease
-- Returns the id and the record of the job of that kind that is next, or false where none waits.
local _, model, priority, worker, lease = unpack(ARGV)
local now = now_ms()
local id = take_next(priority, model, now)
if not id then
  return false
end
local record = record_of(id)
redis.call('HINCRBY', record, 'attempt', 1)
redis.call('HSET', record, 'worker', worker, 'started_ms', now)
move(id, 'running', now)
redis.call('ZADD', prefix .. 'leases', now + lease, id)
return { id, redis.call('HGETALL', record) }
