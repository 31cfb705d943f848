-- ARGV: id, attempt
local _, id, attempt = unpack(ARGV)
if not holds(id, attempt) then
  return 0
end
local now = now_ms()
move(id, 'queued', now)
enqueue(id, now)
return 1
