-- What every script shares. ARGV[1] is the prefix of all keys.
--
-- epoch                  number of this Redis' memory, from 1; missing: it lost its memory, and is to be filled again
-- rebuild                name of the rebuild that fills it; missing: none does, or what it had put in is lost too
-- job:{id}               hash    the record
-- published              zset    queued jobs, by the time of their latest message
-- queue:{priority}:{tenant}:{model}  zset  a tenant's queued jobs of one kind, oldest first
-- tenants:{priority}:{model}         zset  the tenants that have such, by the turn at which each was served last
-- turn                   number of the latest turn
-- leases                 zset    running jobs, by the time at which their lease lapses
-- unnoted                zset    jobs whose end no attempt's files tell of, by its time, until the bucket has a note
-- expiry                 zset    all jobs, by the time at which they are due to expire, and those that were
--                                deleted and still have artifacts, by 0
-- jobs:{tenant}:{state}  zset    all jobs of a tenant in this state; ids sort by time
-- rate:{tenant}          time in us at which the tenant's whole burst of submissions can be had again
-- idempotency:{tenant}:{key}     "{fingerprint} {job id}"
-- result:{tenant}:{fingerprint}  id of the latest job that succeeded with this result; goes when that job expires
-- endpoints:{tenant}     hash    id of each webhook endpoint of a tenant -> its record
-- listeners:{tenant}     hash    id of each of them that is enabled -> its events, as ',job.failed,job.succeeded,'
-- failing                hash    id of each endpoint whose latest delivery failed -> '{since} {latest}'
-- outbox                 zset    deliveries, by the time at which they are due
-- deliveries             hash    '{event id}.{endpoint id, or "own"}' -> the delivery
-- dead_letter:{delivery} string  a delivery that is not tried any more; goes after a while
-- dead_letters:{tenant}  zset    those of a tenant, by the time at which they were given up; some may be gone
-- webhook_test:{event}   string  what became of a test event; goes after a while
-- batches_active         zset    batches that have not ended; ids sort by time
-- batches_active:{model} zset    those of a model
-- batches:{tenant}       zset    all batches of a tenant, some of which may be gone
-- served:{model}         hash    tenant -> turn at which it was given a chunk last
-- chunk_leases           zset    '{batch}/{number}/{attempt}' of the chunks that workers hold, by when the lease lapses
-- What follows goes a while after the end of the batch:
-- batch:{id}             hash    the record of a batch
-- chunks:{id}            hash    number of each chunk that has not ended -> its plan
-- chunks_ready:{id}      zset    those that nobody holds
-- chunk:{id}:{number}    hash    what there is to know of a chunk that was held and has not ended
-- chunks_ended:{id}      hash    number of each chunk that has ended -> '{attempt} {succeeded} {failed} {flagged}'
-- chunk_sums:{id}        hash    what the chunks came to
-- chunk_slowest:{id}     zset    '{line} {item}' of the slowest items, by their milliseconds
-- chunk_pace:{id}        list    '{ms since 1970} {items}' of the chunks that ended last
local prefix = ARGV[1]

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function is_whole()
  return redis.call('EXISTS', prefix .. 'epoch') == 1
end

-- Whether all that this rebuild has put in is here, and nobody else puts in more.
local function is_rebuilt_by(rebuild)
  return redis.call('GET', prefix .. 'rebuild') == rebuild and not is_whole()
end

local function record_of(id)
  return prefix .. 'job:' .. id
end

-- All jobs of a tenant in this state.
local function jobs_of(tenant, state)
  return prefix .. 'jobs:' .. tenant .. ':' .. state
end

local function idempotency_of(tenant, key)
  return prefix .. 'idempotency:' .. tenant .. ':' .. key
end

-- Write the record of a job that is not there; ``fields``: further names and values in turn.
local function add_job(id, tenant, state, expires, fields)
  redis.call('HSET', record_of(id), 'tenant', tenant, 'state', state, 'expires_ms', expires, unpack(fields))
  redis.call('ZADD', jobs_of(tenant, state), 0, id)
  redis.call('ZADD', prefix .. 'expiry', expires, id)
end

local EVENT_OF = {
  running = 'job.started',
  succeeded = 'job.succeeded',
  failed = 'job.failed',
  cancelled = 'job.cancelled',
  expired = 'job.expired',
}

local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true }

-- Id of an event: the same whenever it is made, for jobs end once, as batches do in each round, and an attempt starts
-- once. ``attempt``: of a batch what tells the event from others of its type, 0 the first.
local function event_id_of(event_type, subject, attempt)
  local id = 'evt_' .. subject .. '_' .. string.match(event_type, '[^.]+$')
  local is_numbered = event_type == 'job.started' or (string.sub(event_type, 1, 6) == 'batch.' and attempt ~= '0')
  return is_numbered and id .. '_' .. attempt or id
end

-- Put a delivery into the outbox, unless it is there.
local function send(event_id, receiver, fields, now)
  local delivery = event_id .. '.' .. receiver
  fields.eventId = event_id
  fields.endpoint = receiver ~= 'own' and receiver or nil
  fields.timestampMs = now
  if redis.call('HSETNX', prefix .. 'deliveries', delivery, cjson.encode(fields)) == 1 then
    redis.call('ZADD', prefix .. 'outbox', now, delivery)
  end
end

-- Tell of an event: each endpoint of the tenant that chose it, and the job's own webhook if that did.
local function emit(event_type, tenant, subject, attempt, version, own_events, now)
  local event_id = event_id_of(event_type, subject, attempt)
  local fields = { type = event_type, tenant = tenant, subject = subject, version = version }
  local chosen = ',' .. event_type .. ','
  if string.find(',' .. own_events .. ',', chosen, 1, true) then
    send(event_id, 'own', fields, now)
  end
  local listeners = redis.call('HGETALL', prefix .. 'listeners:' .. tenant)
  for i = 1, #listeners, 2 do
    if string.find(listeners[i + 1], chosen, 1, true) then
      send(event_id, listeners[i], fields, now)
    end
  end
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
  if most == 0 then
    return count
  end
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
  local tenant, from, events, attempt, priority, model =
    unpack(redis.call('HMGET', record, 'tenant', 'state', 'events', 'attempt', 'priority', 'model'))
  local version = redis.call('HINCRBY', record, 'version', 1)
  redis.call('HSET', record, 'state', to)
  redis.call('ZREM', jobs_of(tenant, from), id)
  redis.call('ZADD', jobs_of(tenant, to), 0, id)
  withhold(id, priority, tenant, model)
  redis.call('ZREM', prefix .. 'published', id)
  redis.call('ZREM', prefix .. 'leases', id)
  if to ~= 'running' then
    redis.call('HDEL', record, 'worker')
  end
  if FINAL[to] then
    redis.call('HSET', record, 'finished_ms', now)
    redis.call('HDEL', record, 'events')  -- no further move is to be told of
  end
  if EVENT_OF[to] then
    emit(EVENT_OF[to], tenant, id, attempt, version, events or '', now)
  end
  redis.call('PUBLISH', prefix .. 'changes', id)
end

-- Remember that the bucket is yet to be told how the job ended.
local function await_note(id, now)
  redis.call('ZADD', prefix .. 'unnoted', now, id)
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
    redis.call('ZREM', jobs_of(tenant, state), id)
    withhold(id, priority, tenant, model)
  end
  redis.call('ZREM', prefix .. 'published', id)
  redis.call('ZREM', prefix .. 'leases', id)
  redis.call('ZREM', prefix .. 'unnoted', id)
  redis.call('ZREM', prefix .. 'expiry', id)
  redis.call('PUBLISH', prefix .. 'changes', id)
end

-- Whether the attempt still holds the job.
local function holds(id, attempt)
  local state, current = unpack(redis.call('HMGET', record_of(id), 'state', 'attempt'))
  return state == 'running' and current == attempt
end

local PACE = 32  -- chunks that the pace is taken from
local SLOWEST = 10
local MOST_LABELS = 1000

local function batch_of(id)
  return prefix .. 'batch:' .. id
end

-- The keys that go with a batch's record.
local function keys_of_batch(id)
  local keys = { batch_of(id) }
  for _, name in ipairs({ 'chunks', 'chunks_ready', 'chunks_ended', 'chunk_sums', 'chunk_slowest', 'chunk_pace' }) do
    keys[#keys + 1] = prefix .. name .. ':' .. id
  end
  return keys
end

-- Nothing where one more batch may go on; -2 where as many do as may, -1 where as many of the tenant's do.
local function refusal_of_batch(tenant, max_active, max_of_tenant)
  local active = prefix .. 'batches_active'
  if redis.call('ZCARD', active) >= tonumber(max_active) then
    return -2
  end
  if #redis.call('ZINTER', 2, active, prefix .. 'batches:' .. tenant) >= tonumber(max_of_tenant) then
    return -1
  end
end

local function chunk_of(batch, number)
  return prefix .. 'chunk:' .. batch .. ':' .. number
end

local function lease_of(batch, number, attempt)
  return batch .. '/' .. number .. '/' .. attempt
end

-- Whether the attempt still holds the chunk, and what it does is wanted.
local function holds_chunk(batch, number, attempt)
  return redis.call('ZSCORE', prefix .. 'chunk_leases', lease_of(batch, number, attempt))
    and redis.call('ZSCORE', prefix .. 'batches_active', batch)
    and redis.call('HEXISTS', batch_of(batch), 'cancelling') == 0
end

-- Let nobody hold the chunk.
local function let_go(batch, number, attempt)
  redis.call('ZREM', prefix .. 'chunk_leases', lease_of(batch, number, attempt))
  local items = redis.call('HGET', chunk_of(batch, number), 'items')
  if items and redis.call('EXISTS', batch_of(batch)) == 1 then
    redis.call('HINCRBY', batch_of(batch), 'running', -items)
  end
end

-- Add what a chunk came to to what its batch came to. ``report``: a ChunkEnd as JSON.
local function end_chunk(batch, number, attempt, items, report, now)
  local chunk = cjson.decode(report)
  local sums = prefix .. 'chunk_sums:' .. batch
  for _, name in ipairs({ 'succeeded', 'failed', 'flagged' }) do
    redis.call('HINCRBY', batch_of(batch), name, chunk[name])
  end
  redis.call('HINCRBY', batch_of(batch), 'ended', 1)
  redis.call('HINCRBYFLOAT', sums, 'confidence', chunk.confidence)
  for label, sum in pairs(chunk.labels) do
    if redis.call('HEXISTS', sums, 'items:' .. label) == 1 or redis.call('HLEN', sums) < 3 * MOST_LABELS then
      for name, count in pairs(sum) do
        redis.call('HINCRBY', sums, name .. ':' .. label, string.format('%.0f', count))
      end
    end
  end
  for code, count in pairs(chunk.errors) do
    redis.call('HINCRBY', sums, 'error:' .. code, count)
  end
  for item, ms in pairs(chunk.slowest) do
    redis.call('ZADD', prefix .. 'chunk_slowest:' .. batch, ms, item)
  end
  redis.call('ZREMRANGEBYRANK', prefix .. 'chunk_slowest:' .. batch, 0, -SLOWEST - 1)
  redis.call('RPUSH', prefix .. 'chunk_pace:' .. batch, now .. ' ' .. items)
  redis.call('LTRIM', prefix .. 'chunk_pace:' .. batch, -PACE, -1)
  redis.call('HSET', prefix .. 'chunks_ended:' .. batch, number,
    attempt .. ' ' .. chunk.succeeded .. ' ' .. chunk.failed .. ' ' .. chunk.flagged)
  redis.call('HDEL', prefix .. 'chunks:' .. batch, number)
  redis.call('ZREM', prefix .. 'chunks_ready:' .. batch, number)
  redis.call('DEL', chunk_of(batch, number))
end
