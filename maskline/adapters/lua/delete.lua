-- ARGV: id, tenant; false where the tenant has no such job
local _, id, tenant = unpack(ARGV)
if redis.call('HGET', record_of(id), 'tenant') ~= tenant then
  return false
end
forget(id)
return 1
