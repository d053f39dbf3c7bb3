-- `KEYS[3]` is the slot, `ARGV[11]` its length, `ARGV[12]` its number. Answers `{outcome, time}` or
-- `{'sent', time, epoch, offset}`. A claim that names another slot than Redis' clock does nothing:
-- it may have waited in a paused server. A mark that is further ahead than the next slot is of a
-- clock that was set back since: it does not count, or there were no notice until then.
local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local interval_ms = tonumber(ARGV[11])
local slot = math.floor(now_ms / interval_ms)
if ARGV[12] ~= string.format('%.0f', slot) then return {'other', now_ms} end
local last = tonumber(get(KEYS[3]) or '-1')
if last and last >= slot and last <= slot + 1 then return {'taken', now_ms} end
call('SET', KEYS[3], ARGV[12], 'PX', math.max(2 * interval_ms, 60000))
local done, refused = stamp()
if not done then
  call('DEL', KEYS[3])
  return refused
end
return with_note({'sent', now_ms, done[1], done[2]})
