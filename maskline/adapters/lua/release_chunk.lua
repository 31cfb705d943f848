-- ARGV: batch, number, attempt; returns 1 if it was held
local _, batch, number, attempt = unpack(ARGV)
if not redis.call('ZSCORE', prefix .. 'chunk_leases', lease_of(batch, number, attempt)) then
  return 0
end
let_go(batch, number, attempt)
if redis.call('HEXISTS', prefix .. 'chunks:' .. batch, number) == 1 then
  redis.call('HDEL', chunk_of(batch, number), 'hand', 'worker')
  redis.call('ZADD', prefix .. 'chunks_ready:' .. batch, number, number)
end
return 1
