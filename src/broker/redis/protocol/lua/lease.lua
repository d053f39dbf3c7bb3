-- The lease `KEYS[1]` of the raw channel's bridge: does what `ARGV[1]` says for the holder
-- `ARGV[2]` in its attempt `ARGV[3]`. It lives for `ARGV[4]`; what becomes of it is published on
-- `ARGV[5]` in the same step. Answers `{1 if it is the holder's, milliseconds until it is free}`.
local what, holder, name = ARGV[1], ARGV[2], ARGV[2] .. ' ' .. ARGV[3]
local held, lives_ms = get(KEYS[1]), call('PTTL', KEYS[1])
if held and (lives_ms < 0 or lives_ms > 60000) then
  note_invalid('a lease has no end')
  held = false
end
local is_ours = held == name
if what == 'take' then is_ours = not held or string.match(held, '^%S+') == holder end
if not is_ours then return {0, math.max(lives_ms, 0)} end
-- First what may be refused: whoever hears of it relies on it.
if what == 'release' then
  call('DEL', KEYS[1])
else
  call('SET', KEYS[1], name, 'PX', ARGV[4])
end
local word = ({take = 'taken', leave = 'leaving', release = 'released'})[what]
local told = word and try('PUBLISH', ARGV[5], word .. ' ' .. name)
if is_refusal(told) then
  -- Others may have the right that is lacking here.
  if what == 'take' and not held then call('DEL', KEYS[1]) end
  return told
end
return with_note({1, 0})
