-- ARGV: batch, number, attempt, line; returns 1 if the chunk is held
local _, batch, number, attempt, line = unpack(ARGV)
if not holds_chunk(batch, number, attempt) then
  return 0
end
redis.call('HSET', chunk_of(batch, number), 'hand', line)
return 1
