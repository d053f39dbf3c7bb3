-- Says in `KEYS[1]` for `ARGV[2]` that the process `ARGV[1]` takes clients; without `ARGV[2]`,
-- answers 1 if another process has said so.
if ARGV[2] then
  call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 0
end
local last = get(KEYS[1])
return (last and last ~= ARGV[1]) and 1 or 0
