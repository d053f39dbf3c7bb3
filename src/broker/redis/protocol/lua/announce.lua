-- Publishes an announcement on `ARGV[1]`, which all processes hear: `ARGV[2]`, a stamp, `ARGV[3]`. The
-- stamp is 0, but of a command that keeps `ARGV[4]` out for `ARGV[5]` ms it is the moment by Redis'
-- clock: of two about the same bearer the later one counts. `ARGV[6]` says which moment: 'now', or
-- `ARGV[7]` ms 'ago', or 'at' the stamp `ARGV[7]`. `KEYS[1]` has the ends, of `ARGV[8]` at most, and
-- `KEYS[2]` the stamps, of `ARGV[9]` at most and for `ARGV[10]` ms.
-- Answers `{'told', STAMP}`; or that nobody was told: `{'full'}`, or of a later command, or of this one
-- if it is known, `{'known', STAMP, MS}`: for how long the bearer is kept out by it.
local function forget(key, from, to)
  local forgotten = try('ZREMRANGEBYSCORE', key, from, to)
  if is_of_wrong_type(forgotten) then
    note_invalid('a key of the bans is no sorted set')
    call('DEL', key)
  elseif is_refusal(forgotten) then
    raise(forgotten)
  end
end
local function number(of) return string.format('%.0f', math.min(of, 2 ^ 50)) end
local function keep(key, score, lives_ms)
  call('ZADD', key, number(score), ARGV[4])
  call('PEXPIRE', key, number(lives_ms))
end
local stamp = 0
if ARGV[4] then
  local now_ms = unix_ms()
  local ends_ms = now_ms + tonumber(ARGV[5])
  forget(KEYS[1], '-inf', now_ms)
  forget(KEYS[2], '(' .. number(2 ^ 50), '+inf')
  local known = tonumber(call('ZSCORE', KEYS[2], ARGV[4]) or 0)
  local held = call('ZSCORE', KEYS[1], ARGV[4])
  if ARGV[6] == 'now' then
    stamp = math.max(now_ms, known + 1)
  else
    stamp = tonumber(ARGV[7])
    if ARGV[6] == 'ago' then stamp = now_ms - stamp end
    if known >= stamp then
      return with_note({'known', number(known), number(held and tonumber(held) - now_ms or 0)})
    end
  end
  -- One that is over is only worth telling of if it was kept out for longer.
  local is_over = tonumber(ARGV[5]) <= 1 and not held
  if not is_over then
    if not held and call('ZCARD', KEYS[1]) >= tonumber(ARGV[8]) then return with_note({'full'}) end
    keep(KEYS[1], ends_ms, math.max(call('PTTL', KEYS[1]), tonumber(ARGV[5])))
  end
  keep(KEYS[2], stamp, tonumber(ARGV[10]))
  local surplus = call('ZCARD', KEYS[2]) - tonumber(ARGV[9])
  if surplus > 0 then call('ZREMRANGEBYRANK', KEYS[2], 0, surplus - 1) end
  if is_over then return with_note({'told', number(stamp)}) end
end
call('PUBLISH', ARGV[1], ARGV[2] .. number(stamp) .. ARGV[3])
return with_note({'told', number(stamp)})
