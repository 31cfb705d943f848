-- What every script shares. ARGV[1] is the prefix of all keys.
--
-- epoch                  number of this Redis' memory, from 1; missing: it lost its memory, and is to be filled again
-- job:{id}               hash    the record
-- published              zset    queued jobs, by the time of their latest message
-- queue:{priority}:{tenant}:{model}  zset  a tenant's queued jobs of one kind, oldest first
-- tenants:{priority}:{model}         zset  the tenants that have such, by the turn at which each was served last
-- turn                   number of the latest turn
-- leases                 zset    running jobs, by the time at which their lease lapses
-- expiry                 zset    all jobs, by the time at which they are due to expire, and those that were
--                                deleted and still have artifacts, by 0
-- jobs:{tenant}          zset    all jobs of a tenant; ids sort by time
-- jobs:{tenant}:{state}  zset    the same by state
-- rate:{tenant}          time in us at which the tenant's whole burst of submissions can be had again
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

local function is_whole()
  return redis.call('EXISTS', prefix .. 'epoch') == 1
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

local function queue_of(priority, tenant, model)
  return prefix .. 'queue:' .. priority .. ':' .. tenant .. ':' .. model
end

local function tenants_of(priority, model)
  return prefix .. 'tenants:' .. priority .. ':' .. model
end

-- A tenant that comes anew waits until all others have had their turn. A job that comes back keeps its place.
local function enqueue(id, now)
  local record = record_of(id)
  local priority, tenant, model, created =
    unpack(redis.call('HMGET', record, 'priority', 'tenant', 'model', 'created_ms'))
  redis.call('HSET', record, 'queued_ms', now)
  redis.call('ZADD', queue_of(priority, tenant, model), created, id)
  redis.call('ZADD', tenants_of(priority, model), 'NX', redis.call('GET', prefix .. 'turn') or 0, tenant)
  redis.call('ZADD', prefix .. 'published', now, id)
end

-- Let nobody claim the job.
local function withhold(id, priority, tenant, model)
  local queue = queue_of(priority, tenant, model)
  if redis.call('ZREM', queue, id) == 1 and redis.call('EXISTS', queue) == 0 then
    redis.call('ZREM', tenants_of(priority, model), tenant)
  end
end

-- The id of the job that should run next, and nothing where none waits: the tenants take turns.
local function take_next(priority, model, now)
  local tenants = tenants_of(priority, model)
  while true do
    local tenant = redis.call('ZRANGE', tenants, 0, 0)[1]
    if not tenant then
      return nil
    end
    local id = redis.call('ZRANGE', queue_of(priority, tenant, model), 0, 0)[1]
    if tonumber(redis.call('HGET', record_of(id), 'expires_ms')) > now then
      redis.call('ZADD', tenants, redis.call('INCR', prefix .. 'turn'), tenant)
      return id
    end
    withhold(id, priority, tenant, model)
  end
end

-- How many jobs wait of one kind, of which no tenant has more than ``most``.
local function waiting_of(priority, model, most)
  local count = 0
  for _, tenant in ipairs(redis.call('ZRANGE', tenants_of(priority, model), 0, -1)) do
    count = count + math.min(most, redis.call('ZCARD', queue_of(priority, tenant, model)))
  end
  return count
end

-- The place in the queue, 1 is next; nothing of a job that does not wait.
local function place_of(id)
  local priority, tenant, model = unpack(redis.call('HMGET', record_of(id), 'priority', 'tenant', 'model'))
  if not priority then
    return false
  end
  local before = redis.call('ZRANK', queue_of(priority, tenant, model), id)
  if not before then
    return false
  end
  local tenants = tenants_of(priority, model)
  local place = 1 + waiting_of(priority, model, before)
  for _, other in ipairs(redis.call('ZRANGE', tenants, 0, redis.call('ZRANK', tenants, tenant))) do
    if other ~= tenant and redis.call('ZCARD', queue_of(priority, other, model)) > before then
      place = place + 1
    end
  end
  if priority == 'bulk' then
    place = place + waiting_of('interactive', model, math.huge)
  end
  return place
end

-- The one place where a job changes its state.
local function move(id, to, now)
  local record = record_of(id)
  local tenant, from, events, priority, model =
    unpack(redis.call('HMGET', record, 'tenant', 'state', 'events', 'priority', 'model'))
  local version = redis.call('HINCRBY', record, 'version', 1)
  redis.call('HSET', record, 'state', to)
  redis.call('ZREM', prefix .. 'jobs:' .. tenant .. ':' .. from, id)
  redis.call('ZADD', prefix .. 'jobs:' .. tenant .. ':' .. to, 0, id)
  withhold(id, priority, tenant, model)
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
  local tenant, state, fingerprint, priority, model =
    unpack(redis.call('HMGET', record, 'tenant', 'state', 'result_fingerprint', 'priority', 'model'))
  if fingerprint and redis.call('GET', result_of(tenant, fingerprint)) == id then
    redis.call('DEL', result_of(tenant, fingerprint))
  end
  if tenant then
    redis.call('DEL', record)
    redis.call('ZREM', prefix .. 'jobs:' .. tenant, id)
    redis.call('ZREM', prefix .. 'jobs:' .. tenant .. ':' .. state, id)
    withhold(id, priority, tenant, model)
  end
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
