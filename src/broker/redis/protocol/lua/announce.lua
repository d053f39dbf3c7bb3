-- Publishes the announcement `ARGV[2]` on `ARGV[1]`, which all processes hear. With `ARGV[3]` that is
-- kept out for `ARGV[4]` ms first, in `KEYS[1]`, whose scores are the ends; `ARGV[5]` are kept out at
-- most. Answers `{'told'}`, or `{'full'}` and nobody was told.
if ARGV[3] then
  local now_ms = unix_ms()
  local begun_anew = try('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
  if is_of_wrong_type(begun_anew) then
    note_invalid('the key bans is no sorted set')
    call('DEL', KEYS[1])
  elseif is_refusal(begun_anew) then
    raise(begun_anew)
  end
  local is_there = call('ZSCORE', KEYS[1], ARGV[3])
  if not is_there and call('ZCARD', KEYS[1]) >= tonumber(ARGV[5]) then
    return with_note({'full'})
  end
  local lives_ms = math.max(call('PTTL', KEYS[1]), tonumber(ARGV[4]))
  call('ZADD', KEYS[1], string.format('%.0f', now_ms + tonumber(ARGV[4])), ARGV[3])
  call('PEXPIRE', KEYS[1], string.format('%.0f', lives_ms))
end
call('PUBLISH', ARGV[1], ARGV[2])
return with_note({'told'})
