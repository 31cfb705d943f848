-- ARGV: tenant, deliveries; returns how many of them were among the tenant's dead letters, and are due now
local now = now_ms()
local replayed = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local letter = redis.call('GET', prefix .. 'dead_letter:' .. id)
  if redis.call('ZREM', prefix .. 'dead_letters:' .. ARGV[2], id) == 1 and letter then
    redis.call('DEL', prefix .. 'dead_letter:' .. id)
    local delivery = cjson.decode(letter)
    delivery.tries = 0
    redis.call('HSET', prefix .. 'deliveries', id, cjson.encode(delivery))
    redis.call('ZADD', prefix .. 'outbox', now, id)
    replayed = replayed + 1
  end
end
return replayed
