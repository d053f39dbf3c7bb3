-- Those that are kept out by `KEYS[1]`: `ARGV[1]` of them at most, and none that is longer than
-- `ARGV[2]`. Answers Redis' clock in ms; then of each the bearer, the milliseconds for which it still
-- is kept out, and the stamp of that command, which `KEYS[2]` has.
local now_ms = unix_ms()
local function number(of) return string.format('%.0f', math.min(of, 2 ^ 50)) end
local bans = {number(now_ms)}
local held = try(
  'ZRANGEBYSCORE', KEYS[1], '(' .. number(now_ms), '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1]
)
if is_of_wrong_type(held) then
  note_invalid('a key of the bans is no sorted set')
  return with_note(bans)
end
if is_refusal(held) then raise(held) end
for at = 1, #held, 2 do
  if #held[at] <= tonumber(ARGV[2]) then
    local stamp = try('ZSCORE', KEYS[2], held[at])
    if is_of_wrong_type(stamp) then stamp = nil end
    if is_refusal(stamp) then raise(stamp) end
    bans[#bans + 1] = held[at]
    bans[#bans + 1] = number(tonumber(held[at + 1]) - now_ms)
    bans[#bans + 1] = number(math.max(0, tonumber(stamp or 0)))
  end
end
return bans
