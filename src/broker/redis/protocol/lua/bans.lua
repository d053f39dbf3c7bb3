-- Those that are kept out by `KEYS[1]`, each with the milliseconds for which it still is; `ARGV[1]` of
-- them at most, and none that is longer than `ARGV[2]`.
local now_ms = unix_ms()
local held = try(
  'ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now_ms), '+inf', 'WITHSCORES', 'LIMIT', 0,
  ARGV[1]
)
if is_of_wrong_type(held) then
  note_invalid('the key bans is no sorted set')
  return with_note({})
end
if is_refusal(held) then raise(held) end
local bans = {}
for at = 1, #held, 2 do
  if #held[at] <= tonumber(ARGV[2]) then
    bans[#bans + 1] = held[at]
    bans[#bans + 1] = string.format('%.0f', math.min(tonumber(held[at + 1]) - now_ms, 2 ^ 50))
  end
end
return bans
