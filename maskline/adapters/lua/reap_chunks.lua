-- ARGV: most chunks to look at; returns batch, number and attempt of those that wait again
local _, limit = unpack(ARGV)
local returned = {}
for _, member in ipairs(
  redis.call('ZRANGEBYSCORE', prefix .. 'chunk_leases', '-inf', now_ms(), 'LIMIT', 0, limit)) do
  local batch, number, attempt = string.match(member, '^(.*)/(%d+)/(%d+)$')
  let_go(batch, number, attempt)
  if redis.call('HEXISTS', prefix .. 'chunks:' .. batch, number) == 1 then
    local chunk = chunk_of(batch, number)
    local line = redis.call('HGET', chunk, 'hand')
    if line then  -- else nothing of it was run
      redis.call('HINCRBY', chunk, 'losses', 1)
      redis.call('HINCRBY', chunk, 'line:' .. line, 1)
      redis.call('HDEL', chunk, 'hand')
    end
    redis.call('ZADD', prefix .. 'chunks_ready:' .. batch, number, number)
    returned[#returned + 1] = { batch, number, attempt }
  end
end
return returned
