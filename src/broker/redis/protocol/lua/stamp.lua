-- The part of the scripts that publishes: a message's offset, its place in the stream and its
-- PUBLISH are one step, and what Redis refuses is taken back.
--
-- Next offset, stream, and what `send` does: PUBLISH (or SPUBLISH). What Redis refuses is taken
-- back: no hole.
--
-- `ARGV`: channel, kind, payload, epoch candidate, life of the meta hash, nonce, messages in the
-- stream (0: no history), life of the stream, bytes of half a stream, whose message it is (a
-- letter; the lesser one has the stream).
--
-- A stream has two halves. The newer one began at the offset `since` and has `bytes`; `before` has
-- the older one. When the newer one is full, the older one goes, and what is there was needed: so
-- many bytes are kept at least, and twice as many at most. `is_full`: the stream must not grow;
-- then it goes, if it is the publisher's. Answers also how many bytes it has, or `ended`.
local function count_of(text) return is_number(text, 9007199254740991) and tonumber(text) or 0 end
local function fields_of(own)
  return {'since', string.format('%.0f', own.since), 'bytes', string.format('%.0f', own.bytes),
    'before', string.format('%.0f', own.before), 'who', own.who}
end
-- The halves as they are now, this publisher being one of the stream's; and the fields before.
local function halves(is_new)
  local nothing = {since = 0, bytes = 0, before = 0, who = ARGV[10]}
  if is_new or ARGV[7] == '0' or call('PTTL', KEYS[2]) == -2 then
    return nothing, fields_of(nothing)
  end
  local held = call('HMGET', KEYS[1], 'since', 'bytes', 'before', 'who')
  local who = held[4]
  if who ~= '0' and who ~= '1' then who = ARGV[10] end
  local own = {since = count_of(held[1]), bytes = count_of(held[2]), before = count_of(held[3]),
    who = who}
  local had = fields_of(own)
  if ARGV[10] < who then own.who = ARGV[10] end
  return own, had
end
local function stamp_with(send, is_full)
  local meta, stream, nonce = KEYS[1], KEYS[2], ARGV[6]
  local held = sound_meta()
  if held[2] == '9007199254740991' then
    odd('the key meta has counted to its end')
    held = {false, '0', '0'}
  end
  local epoch, previous = held[1], held[3]
  local is_new, is_counted = not epoch, false
  local own, had = halves(is_new)
  local function take_back(refused)
    if is_new then
      -- Without the right to that, it is forgotten in time.
      if is_refusal(try('DEL', meta)) then try('PEXPIRE', meta, ARGV[5]) end
    elseif is_counted then
      try('HINCRBY', meta, 'offset', -1)
      try('HSET', meta, 'nonce', previous, unpack(had))
    end
    return nil, refused
  end
  if is_new then
    if NOTE then call('DEL', meta) end
    -- Not the other way round: after a DEL, a full memory is no reason any more.
    local begun = try('HSET', meta, 'epoch', ARGV[4], 'offset', 0, 'nonce', 0)
    if is_refusal(begun) then return nil, begun end
    local gone = try('DEL', stream)
    if is_refusal(gone) then return take_back(gone) end
    epoch, previous = ARGV[4], '0'
  end
  local count = try('HINCRBY', meta, 'offset', 1)
  if is_refusal(count) then return take_back(count) end
  is_counted = true
  local offset = string.format('%.0f', count)
  local is_kept, most = ARGV[7] ~= '0', ARGV[7]
  if is_full and own.who == ARGV[10] then
    is_kept, own.bytes, own.before = false, 0, 0
  elseif is_kept then
    local size = #ARGV[3] + MESSAGE_COST
    if own.since == 0 then own.since = count end
    local is_heavy = own.bytes > 0 and own.bytes + size > tonumber(ARGV[9])
    if is_heavy then most = math.min(most, count - own.since + 1) end
    if is_heavy or count - own.since >= tonumber(ARGV[7]) then
      own.since, own.bytes, own.before = count, 0, own.bytes
    end
    own.bytes = own.bytes + size
  end
  local stamped = try('HSET', meta, 'nonce', nonce, unpack(fields_of(own)))
  if is_refusal(stamped) then return take_back(stamped) end
  local lives = try('PEXPIRE', meta, ARGV[5])
  if is_refusal(lives) then return take_back(lives) end
  local id = offset .. '-' .. nonce
  local function leave_out(refused)
    -- Or the next one, with a smaller nonce, would be refused.
    local before = string.format('%.0f', offset - 1) .. '-' .. previous
    if is_refusal(try('XDEL', stream, id)) or is_refusal(try('XSETID', stream, before)) then
      try('DEL', stream)
    end
    return take_back(refused)
  end
  local has_ended = is_full and not is_kept and call('DEL', stream) == 1
  if is_kept then
    local function add()
      return try('XADD', stream, 'MAXLEN', '~', string.format('%.0f', most), id,
        'k', ARGV[2], 'd', ARGV[3], 'p', previous)
    end
    local added = add()
    local function is(what) return is_refusal(added) and string.find(added.err, what, 1, true) end
    if is('equal or smaller') or is('exhausted') or is('WRONGTYPE') then
      -- It is ahead of meta, or no stream: not this history's.
      odd('the key stream holds another history')
      call('DEL', stream)
      added = add()
    end
    if is_refusal(added) then return take_back(added) end
    local lasts = try('PEXPIRE', stream, ARGV[8])
    if is_refusal(lasts) then return leave_out(lasts) end
  end
  local words = {VERSION, ARGV[2], epoch, offset, nonce, previous}
  local sent = send(table.concat(words, ' ') .. '\n' .. ARGV[3])
  if is_refusal(sent) then
    if is_kept then return leave_out(sent) end
    return take_back(sent)
  end
  return {epoch, offset, has_ended and 'ended' or string.format('%.0f', own.bytes + own.before)}
end
local function stamp(is_full)
  local forbidden = may_not_send(ARGV[1])
  if forbidden then return nil, forbidden end
  return stamp_with(function(message) return try(SEND, ARGV[1], message) end, is_full)
end
