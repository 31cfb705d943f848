-- ARGV: tenant, new jobs, us between two submissions or 0, submissions at once, most jobs that may wait or 0
-- The rate is the generic cell rate algorithm: what is kept is the time at which the whole burst can be had again.
-- More jobs than a burst are admitted when all of it can be had, and are paid for afterwards.
local _, tenant = unpack(ARGV)
local jobs, interval, burst, max_queued =
  tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local queued = 0
if max_queued > 0 then
  queued = redis.call('ZCARD', jobs_of(tenant, 'queued'))
end
local is_full = max_queued > 0 and queued + jobs > max_queued
local debt, wait = 0, 0
if interval > 0 then
  local key = prefix .. 'rate:' .. tenant
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  debt = math.max(tonumber(redis.call('GET', key) or now) - now, 0)
  wait = math.max(debt + (math.min(jobs, burst) - burst) * interval, 0)
  if wait == 0 and not is_full then
    debt = debt + jobs * interval
    redis.call('SET', key, string.format('%.0f', now + debt), 'PX', math.ceil(debt / 1000))
  end
end
return { is_full and 1 or 0, math.ceil(wait), math.ceil(debt), queued }
