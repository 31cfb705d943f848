-- What every script shares. ARGV[1] is the prefix of all keys.
--
-- job:{id}               hash    the record
-- queue                  zset    queued jobs, in the order in which they should run
-- published              zset    queued jobs, by the time of their latest message
-- leases                 zset    running jobs, by the time at which their lease lapses
-- expiry                 zset    all jobs, by the time at which they are due to expire, and those that were
--                                deleted and still have artifacts, by 0
-- jobs:{tenant}          zset    all jobs of a tenant; ids sort by time
-- jobs:{tenant}:{state}  zset    the same by state
-- idempotency:{tenant}:{key}     "{fingerprint} {job id}"
-- result:{tenant}:{fingerprint}  id of the latest job that succeeded with this result; goes when that job expires
-- outbox                 zset    events, by the time at which they are due
-- events                 hash    event id -> event
-- dead_letters           zset    events that can't be delivered
-- batch:{id}             hash    the record of a batch; goes a while after its end
-- batches_active         zset    batches that have not ended; ids sort by time
-- batches:{tenant}       zset    all batches of a tenant, some of which may be gone
local prefix = ARGV[1]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function record_of(id)
  return prefix .. 'job:' .. id
end

local EVENT_OF = {
  running = 'job.started',
  succeeded = 'job.succeeded',
  failed = 'job.failed',
  cancelled = 'job.cancelled',
  expired = 'job.expired',
}

local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

local function emit(id, state, events, version, now)
  local event_type = EVENT_OF[state]
  if not event_type or not string.find(',' .. events .. ',', ',' .. event_type .. ',', 1, true) then
    return
  end
  local event_id = 'evt_' .. id .. '_' .. version
  redis.call('HSET', prefix .. 'events', event_id, cjson.encode({
    type = event_type, job_id = id, version = version, timestamp_ms = now, tries = 0,
  }))
  redis.call('ZADD', prefix .. 'outbox', now, event_id)
end

local function enqueue(id, priority, now)
  local rank = priority == 'interactive' and 0 or 1
  redis.call('HSET', record_of(id), 'queued_ms', now)
  redis.call('ZADD', prefix .. 'queue', rank * 1e13 + now, id)
  redis.call('ZADD', prefix .. 'published', now, id)
end

-- The one place where a job changes its state.
local function move(id, to, now)
  local record = record_of(id)
  local tenant, from, events = unpack(redis.call('HMGET', record, 'tenant', 'state', 'events'))
  local version = redis.call('HINCRBY', record, 'version', 1)
  redis.call('HSET', record, 'state', to)
  redis.call('ZREM', prefix .. 'jobs:' .. tenant .. ':' .. from, id)
  redis.call('ZADD', prefix .. 'jobs:' .. tenant .. ':' .. to, 0, id)
  redis.call('ZREM', prefix .. 'queue', id)
  redis.call('ZREM', prefix .. 'published', id)
  redis.call('ZREM', prefix .. 'leases', id)
  if FINAL[to] then
    redis.call('HSET', record, 'finished_ms', now)
  end
  emit(id, to, events or '', version, now)
  redis.call('PUBLISH', prefix .. 'changes', id)
end

local function result_of(tenant, fingerprint)
  return prefix .. 'result:' .. tenant .. ':' .. fingerprint
end

-- Let later requests for the same result find this job.
local function remember_result(id)
  local tenant, fingerprint, expires =
    unpack(redis.call('HMGET', record_of(id), 'tenant', 'result_fingerprint', 'expires_ms'))
  if fingerprint and fingerprint ~= '' then
    redis.call('SET', result_of(tenant, fingerprint), id, 'PXAT', expires)
  end
end

-- Remove every trace of a job.
local function forget(id)
  local record = record_of(id)
  local tenant, state, fingerprint = unpack(redis.call('HMGET', record, 'tenant', 'state', 'result_fingerprint'))
  if fingerprint and redis.call('GET', result_of(tenant, fingerprint)) == id then
    redis.call('DEL', result_of(tenant, fingerprint))
  end
  if tenant then
    redis.call('DEL', record)
    redis.call('ZREM', prefix .. 'jobs:' .. tenant, id)
    redis.call('ZREM', prefix .. 'jobs:' .. tenant .. ':' .. state, id)
  end
  redis.call('ZREM', prefix .. 'queue', id)
  redis.call('ZREM', prefix .. 'published', id)
  redis.call('ZREM', prefix .. 'leases', id)
  redis.call('ZREM', prefix .. 'expiry', id)
  redis.call('PUBLISH', prefix .. 'changes', id)
end

-- Whether the attempt still holds the job.
local function holds(id, attempt)
  local state, current = unpack(redis.call('HMGET', record_of(id), 'state', 'attempt'))
  return state == 'running' and current == attempt
end
