-- ARGV: ms of the lease, then batch, number and attempt of each chunk; returns the leases that are lost
local lease = ARGV[2]
local until_ms = now_ms() + lease
local lost = {}
for i = 3, #ARGV, 3 do
  local member = lease_of(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if holds_chunk(ARGV[i], ARGV[i + 1], ARGV[i + 2]) then
    redis.call('ZADD', prefix .. 'chunk_leases', until_ms, member)
  else
    lost[#lost + 1] = member
  end
end
return lost
