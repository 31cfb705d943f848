-- ARGV: ms of the lease, then an id and an attempt for each job; returns the ids that are lost
local lease = ARGV[2]
local until_ms = now_ms() + lease
local lost = {}
for i = 3, #ARGV, 2 do
  if holds(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', prefix .. 'leases', until_ms, ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
