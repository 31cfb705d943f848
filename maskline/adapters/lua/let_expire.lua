-- ARGV: ms until expiry, ids
local due = now_ms() + ARGV[2]
for i = 3, #ARGV do
  local id = ARGV[i]
  local record = record_of(id)
  if redis.call('EXISTS', record) == 1 then
    redis.call('HSET', record, 'expires_ms', due)
    redis.call('ZADD', prefix .. 'expiry', due, id)
    redis.call('PUBLISH', prefix .. 'changes', id)
    local tenant, fingerprint = unpack(redis.call('HMGET', record, 'tenant', 'result_fingerprint'))
    if fingerprint and redis.call('GET', result_of(tenant, fingerprint)) == id then
      remember_result(id)
    end
  end
end
return 1
