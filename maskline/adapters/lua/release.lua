-- ARGV: id, attempt; returns the model and the priority of the job, or false where it was no longer held
local _, id, attempt = unpack(ARGV)
if not holds(id, attempt) then
  return false
end
local now = now_ms()
move(id, 'queued', now)
enqueue(id, now)
return redis.call('HMGET', record_of(id), 'model', 'priority')
