-- ARGV: batch, number, attempt, items, how it ended
-- Returns 1 if this attempt ended it, 0 if it did not, -1 if that can't be told.
local _, batch, number, attempt, items, report = unpack(ARGV)
if holds_chunk(batch, number, attempt) then
  let_go(batch, number, attempt)
  end_chunk(batch, number, attempt, items, report, now_ms())
  return 1
end
local ended = redis.call('HGET', prefix .. 'chunks_ended:' .. batch, number)
if ended then  -- the reply may have been lost, or the record was made anew from what the attempt had stored
  return string.match(ended, '^%d+') == attempt and 1 or 0
end
if not is_whole() then
  return -1
end
-- After Redis lost its memory a batch is cut anew, and what was stored may yet count.
local is_cut = redis.call('HEXISTS', prefix .. 'chunks:' .. batch, number) == 1
return (is_cut or not redis.call('ZSCORE', prefix .. 'batches_active', batch)) and 0 or -1
