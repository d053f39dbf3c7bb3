-- Publishes the announcement `ARGV[2]` on `ARGV[1]`, which all processes hear.
call('PUBLISH', ARGV[1], ARGV[2])
return 1
