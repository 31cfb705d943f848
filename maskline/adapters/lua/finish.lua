-- ARGV: id, attempt, state, timings or '', failure or ''
local _, id, attempt, state, timings, failure = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
if timings ~= '' then
  redis.call('HSET', record_of(id), 'timings', timings)
end
if failure ~= '' then
  redis.call('HSET', record_of(id), 'failure', failure)
end
move(id, state, now_ms())
if state == 'succeeded' then
  remember_result(id)
end
return 1
