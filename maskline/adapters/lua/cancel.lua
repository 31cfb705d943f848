-- ARGV: id, tenant; returns the record, or false where the tenant has no such job
local _, id, tenant = unpack(ARGV)
local owner, state = unpack(redis.call('HMGET', record_of(id), 'tenant', 'state'))
if owner ~= tenant then
  return false
end
if not FINAL[state] then
  local now = now_ms()
  move(id, 'cancelled', now)
  await_note(id, now)
end
return redis.call('HGETALL', record_of(id))
