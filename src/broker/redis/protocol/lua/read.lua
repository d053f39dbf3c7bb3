-- The history alone, by `ARGV[1]` and the following; of a channel that was never used, none.
local held = stream_position()
if not held[1] then return false end
return history(held, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
