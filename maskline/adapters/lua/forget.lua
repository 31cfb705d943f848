-- ARGV: id
local _, id = unpack(ARGV)
forget(id)
return 1
