-- ARGV: id, tenant; false where the tenant has no such job
-- The id stays due until the job's artifacts are gone.
local _, id, tenant = unpack(ARGV)
if redis.call('HGET', record_of(id), 'tenant') ~= tenant then
  return false
end
forget(id)
redis.call('ZADD', prefix .. 'expiry', 0, id)
return 1
