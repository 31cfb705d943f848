-- ARGV: id; the place in the queue, or false of a job that does not wait
return place_of(ARGV[2])
