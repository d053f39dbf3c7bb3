-- Anyone with the rights can write our keys. What is not as these scripts write it counts as not
-- there, and is written anew; the answer ends with a note of it, which `replies::note` takes off.
local NOTE
local function note_invalid(what) NOTE = NOTE or NOTED .. what end
local function with_note(answer)
  if NOTE and type(answer) == 'table' and not answer.err then answer[#answer + 1] = NOTE end
  return answer
end
local function is_of_wrong_type(answer)
  return is_refusal(answer) and string.find(answer.err, 'WRONGTYPE', 1, true)
end
local function get(key)
  local value = try('GET', key)
  if is_of_wrong_type(value) then
    note_invalid('a key is no string')
    return false
  end
  if is_refusal(value) then raise(value) end
  return value
end
local function is_number(text, last)
  local is_plain = text and #text <= 16 and (text == '0' or string.find(text, '^[1-9]%d*$'))
  return is_plain and tonumber(text) <= last
end
local function is_epoch(text)
  return text and #text <= 32 and string.find(text, '^[%w_-]+$')
    and not string.find(text, '^empty%-')
end
local function checked_meta(...)
  local none = {false, '0', '0', ''}
  local held = try('HMGET', KEYS[1], 'epoch', 'offset', 'nonce', 'ended', ...)
  if is_of_wrong_type(held) then
    note_invalid('the key meta is no hash')
    return none
  end
  if is_refusal(held) then raise(held) end
  if not held[1] then return none end
  local last = 9007199254740991
  if is_epoch(held[1]) and is_number(held[2], last) and is_number(held[3], last) then
    if not held[4] or #held[4] > 2000 then held[4] = '' end
    return held
  end
  note_invalid('the key meta holds no position')
  return none
end
