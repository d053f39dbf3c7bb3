-- The empty_epochs that count, the newest first, from `KEYS[1]`: a new one, `ARGV[1]`, for `ARGV[2]`, if
-- there is none that lives for `ARGV[3]` yet.
local known, lives_ms = get(KEYS[1]), call('PTTL', KEYS[1])
if known and not string.match(known, '^empty%-[%w_-]+') then known = false end
if not known or lives_ms < tonumber(ARGV[3]) then
  local before = known and string.match(known, '^%S+')
  known = before and ARGV[1] .. ' ' .. before or ARGV[1]
  call('SET', KEYS[1], known, 'PX', ARGV[2])
end
return known
