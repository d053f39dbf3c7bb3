-- `KEYS[3]`, if there: the idempotency key, which lives for `ARGV[12]`. `ARGV[11]` names what there
-- must not be more of: new `keys` or new `channels`, and what would need it is answered with that
-- word and not done; or bytes of `histories`. What was published before is answered with a third
-- word, `known`.
local key, full = KEYS[3], ARGV[11] or ''
if key then
  local epoch, offset = string.match(get(key) or '', '^(%S+) (%d+)$')
  if is_epoch(epoch) and is_number(offset, 9007199254740991) then
    return {epoch, offset, 'known'}
  end
  if string.find(full, 'keys', 1, true) then return {'keys'} end
end
if string.find(full, 'channels', 1, true) and not checked_meta()[1] then
  return {'channels'}
end
local done, refused = stamp(string.find(full, 'histories', 1, true))
if done and key then
  try('SET', key, done[1] .. ' ' .. done[2], 'PX', ARGV[12])
end
return with_note(done or refused)
