-- ARGV: event, what becomes of it (done, retry, dead), ms until the next try
local _, id, fate, delay = unpack(ARGV)
local event = redis.call('HGET', prefix .. 'events', id)
if not event then
  return 0
end
if fate == 'done' then
  redis.call('ZREM', prefix .. 'outbox', id)
  redis.call('HDEL', prefix .. 'events', id)
  return 1
end
local known = cjson.decode(event)
known.tries = known.tries + 1
redis.call('HSET', prefix .. 'events', id, cjson.encode(known))
if fate == 'retry' then
  redis.call('ZADD', prefix .. 'outbox', now_ms() + delay, id)
else
  redis.call('ZREM', prefix .. 'outbox', id)
  redis.call('ZADD', prefix .. 'dead_letters', now_ms(), id)
end
return 1
