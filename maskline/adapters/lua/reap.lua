-- ARGV: most losses of a job, its failure after those, most jobs to look at
-- Returns the jobs that wait again, and the ids of those that failed.
local _, max_losses, failure, limit = unpack(ARGV)
local now = now_ms()
local returned, failed = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'leases', '-inf', now, 'LIMIT', 0, limit)) do
  local record = record_of(id)
  if redis.call('HINCRBY', record, 'losses', 1) >= tonumber(max_losses) then
    redis.call('HSET', record, 'failure', failure)
    move(id, 'failed', now)
    await_note(id, now)
    failed[#failed + 1] = id
  else
    local model, priority = unpack(redis.call('HMGET', record, 'model', 'priority'))
    move(id, 'queued', now)
    enqueue(id, now)
    returned[#returned + 1] = { id, model, priority }
  end
end
return { returned, failed }
