-- Whether a message would be taken now. `KEYS`: the trial's own meta, stream and idempotency key,
-- which are gone at the end; then meta and stream that are meant. `ARGV`: as in `stamp.lua`, the
-- channel being the trial's own; then the channel that is meant. Answers as publishing does.
local refused = may_not_send(ARGV[11])
if refused then return refused end
-- Where Redis can be asked, what the user may do with the keys that are meant.
local meta, stream, is_asked = KEYS[4], KEYS[5], false
local needed = {
  {'GET', meta}, {'SET', meta, '', 'XX'}, {'HMGET', meta, 'epoch'}, {'HSET', meta, 'nonce', '0'},
  {'PEXPIRE', meta, '1'}, {'DEL', meta}, {'DEL', stream},
}
local is_kept = ARGV[7] ~= '0'
if is_kept then
  for _, words in ipairs({
    {'XADD', stream, '*', 'k', 't'}, {'PEXPIRE', stream, '1'}, {'PTTL', stream},
    {'XDEL', stream, '0-0'}, {'XSETID', stream, '0-0'},
  }) do needed[#needed + 1] = words end
end
for _, words in ipairs(needed) do
  local knows, allowed = pcall(redis.acl_check_cmd, unpack(words))
  is_asked = is_asked or knows
  if knows and not allowed then
    return redis.error_reply('NOPERM no permission to publish (' .. words[1] .. ')')
  end
end
-- Before anything is there: without these it could not be taken away. The first that writes is one
-- that a full memory refuses: after it a full memory is no reason any more.
local function begin()
  local first = {
    {'SET', KEYS[3], '', 'XX'}, {'PEXPIRE', KEYS[1], '1'}, {'DEL', KEYS[1]}, {'DEL', KEYS[2]},
    {'GET', KEYS[3]},
  }
  for _, words in ipairs(first) do
    local answer = try(unpack(words))
    if is_refusal(answer) then return answer end
  end
end
local function is_right(answer)
  local text = answer.err
  return string.find(text, 'NOPERM', 1, true) or string.find(text, 'user executing', 1, true)
end
local function send(message)
  local sent = try(SEND, ARGV[1], message)
  -- The trial's own channel is nobody's.
  if is_refusal(sent) and is_right(sent) then return 0 end
  return sent
end
local done
refused = begin()
if not refused then
  done, refused = stamp_with(send)
  if done then
    local id = done[2] .. '-' .. ARGV[6]
    for _, words in ipairs({{'XDEL', KEYS[2], id}, {'XSETID', KEYS[2], id}}) do
      local answer = is_kept and try(unpack(words))
      if is_refusal(answer) then refused = refused or answer end
    end
  end
  try('DEL', KEYS[2])
  try('DEL', KEYS[1])
end
-- All that is meant was asked for: only the trial's own keys are not allowed.
if refused and not (is_asked and is_right(refused)) then return refused end
return done or {ARGV[4], '0', '0'}
