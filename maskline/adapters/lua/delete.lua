-- ARGV: id, tenant; returns the key of an image to remove, or '', or false where the tenant has no such job
local _, id, tenant = unpack(ARGV)
if redis.call('HGET', record_of(id), 'tenant') ~= tenant then
  return false
end
return forget(id)
