-- ARGV: ms for which a job that ends here is kept, most jobs to look at
local _, keep, limit = unpack(ARGV)
local now = now_ms()
local over = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'expiry', '-inf', now, 'LIMIT', 0, limit)) do
  local record = record_of(id)
  local state = redis.call('HGET', record, 'state')
  if not state or FINAL[state] then
    over[#over + 1] = id
  else
    move(id, 'expired', now)
    redis.call('HSET', record, 'expires_ms', now + keep)
    redis.call('ZADD', prefix .. 'expiry', now + keep, id)
  end
end
return over
