-- ARGV: id, tenant, version that it takes the place of (0: none), record, its events or '' while it is disabled,
--       most endpoints of a tenant
local _, id, tenant, over, record, events, most = unpack(ARGV)
local endpoints = prefix .. 'endpoints:' .. tenant
local known = redis.call('HGET', endpoints, id)
if (known and cjson.decode(known).version or 0) ~= tonumber(over) then
  return 'changed'
end
if not known and redis.call('HLEN', endpoints) >= tonumber(most) then
  return 'full'
end
redis.call('HSET', endpoints, id, record)
if events ~= '' then
  redis.call('HSET', prefix .. 'listeners:' .. tenant, id, ',' .. events .. ',')
else
  redis.call('HDEL', prefix .. 'listeners:' .. tenant, id)
  redis.call('HDEL', prefix .. 'failing', id)
end
return 'saved'
