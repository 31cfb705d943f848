-- ARGV: event, tenant, endpoint
local _, event_id, tenant, endpoint = unpack(ARGV)
send(event_id, endpoint, { type = 'webhook.test', tenant = tenant, subject = endpoint }, now_ms())
return 1
