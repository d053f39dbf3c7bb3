-- Nothing is stored: of a channel that nobody has published to, nothing is answered. With
-- `ARGV[1]`, the history too, by `ARGV[3]` and the following, unless there is nothing after the
-- offset `ARGV[2]` of the epoch `ARGV[1]`.
local held = stream_position()
if not held[1] then return false end
if not ARGV[1] or (held[1] == ARGV[1] and tonumber(held[2]) <= tonumber(ARGV[2])) then
  return held
end
return history(held, ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
