-- ARGV: id, attempt, state, timings or '', failure or '', 1 if the bucket says so already
-- Returns 1 if the job has ended so by this attempt, 0 if it has not, -1 if that can't be told.
local _, id, attempt, state, timings, failure, is_noted = unpack(ARGV)
local record = record_of(id)
if not holds(id, attempt) then
  -- The reply may have been lost, or the record was made anew from what the attempt had stored.
  local ended, by = unpack(redis.call('HMGET', record, 'state', 'attempt'))
  if ended == state and by == attempt then
    return 1
  end
  return is_whole() and 0 or -1
end
if timings ~= '' then
  redis.call('HSET', record, 'timings', timings)
end
if failure ~= '' then
  redis.call('HSET', record, 'failure', failure)
end
local now = now_ms()
move(id, state, now)
if is_noted ~= '1' then
  await_note(id, now)
end
if state == 'succeeded' then
  remember_result(id)
end
return 1
