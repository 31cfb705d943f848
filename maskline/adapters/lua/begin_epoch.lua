-- ARGV: rebuild, number of the epoch; 0 where that rebuild was overtaken
local _, rebuild, number = unpack(ARGV)
if not is_rebuilt_by(rebuild) then
  return 0
end
redis.call('SET', prefix .. 'epoch', number)
redis.call('DEL', prefix .. 'rebuild')
return 1
