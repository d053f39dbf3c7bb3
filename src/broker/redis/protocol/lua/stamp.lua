-- The part of the scripts that publishes: a message's offset, its place in the stream and its
-- PUBLISH (or SPUBLISH) are one step, and what Redis refuses is taken back: no hole.
--
-- `ARGV`: channel, kind, payload, epoch candidate, life of the meta hash, nonce, messages in the
-- stream (0: no history), life of the stream, bytes of half a stream, whose message it is (0, 0t
-- or 1; the lesser one has the stream).
--
-- A stream has two halves. The newer one began at the offset `since` and has `bytes`; `before` has
-- the older one: the field `quota` holds these and `who`, in one, since each word of a command
-- costs. When the newer one is full, the older one goes, and what is there was needed: so many
-- bytes are kept at least, and twice as many at most. `send`: PUBLISH or SPUBLISH. `is_full`: the stream must not grow;
-- then it goes, if it is the publisher's. Answers also how many bytes it has, or `ended`.

-- The halves that this publisher's message goes to; none if what is there is not sound.
local function halves(quota, count)
  local since, bytes, before, who = string.match(quota or '', '^(%d+) (%d+) (%d+) ([01]t?)$')
  if not since then return 0, 0, 0, ARGV[10] end
  since, bytes, before = tonumber(since), tonumber(bytes), tonumber(before)
  if since > count or bytes + before > 9007199254740991 then return 0, 0, 0, ARGV[10] end
  return since, bytes, before, ARGV[10] < who and ARGV[10] or who
end
local function stamp_with(send, is_full)
  local meta, stream, nonce = KEYS[1], KEYS[2], ARGV[6]
  local held = checked_meta('quota')
  if held[2] == '9007199254740991' then
    note_invalid('the key meta has counted to its end')
    held = {false, '0', '0', ''}
  end
  local epoch, previous = held[1], held[3]
  local is_new, is_counted = not epoch, false
  local count = held[2] + 1
  local quota = ARGV[7] ~= '0' and call('PTTL', stream) ~= -2 and held[5]
  local since, bytes, before, who = halves(quota, count)
  local function take_back(refused)
    if is_new then
      -- Without the right to that, it is forgotten in time.
      if is_refusal(try('DEL', meta)) then try('PEXPIRE', meta, ARGV[5]) end
    elseif is_counted then
      try('HSET', meta, 'offset', held[2], 'nonce', previous, 'quota', quota or '')
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
  local offset = string.format('%.0f', count)
  local is_kept, most = ARGV[7] ~= '0', ARGV[7]
  if is_full and who == ARGV[10] then
    is_kept, bytes, before = false, 0, 0
  elseif is_kept then
    local size = #ARGV[3] + MESSAGE_COST
    if since == 0 then since = count end
    local is_heavy = bytes > 0 and bytes + size > tonumber(ARGV[9])
    if is_heavy then most = string.format('%.0f', math.min(most, count - since + 1)) end
    if is_heavy or count - since >= tonumber(ARGV[7]) then
      since, bytes, before = count, 0, bytes
    end
    bytes = bytes + size
  end
  local quota_now = string.format('%.0f %.0f %.0f ', since, bytes, before) .. who
  local stamped = try('HSET', meta, 'offset', offset, 'nonce', nonce, 'quota', quota_now)
  if is_refusal(stamped) then return take_back(stamped) end
  is_counted = true
  local lives = try('PEXPIRE', meta, ARGV[5])
  if is_refusal(lives) then return take_back(lives) end
  local id = offset .. '-' .. nonce
  local function leave_out(refused)
    -- Or the next one, with a smaller nonce, would be refused.
    local last = string.format('%.0f', offset - 1) .. '-' .. previous
    if is_refusal(try('XDEL', stream, id)) or is_refusal(try('XSETID', stream, last)) then
      try('DEL', stream)
    end
    return take_back(refused)
  end
  local has_ended = is_full and not is_kept and call('DEL', stream) == 1
  if is_kept then
    local function add()
      return try('XADD', stream, 'MAXLEN', '~', most, id,
        'k', ARGV[2], 'd', ARGV[3], 'p', previous)
    end
    local added = add()
    local function is(what) return string.find(added.err, what, 1, true) end
    if is_refusal(added) and (is('equal or smaller') or is('exhausted') or is('WRONGTYPE')) then
      -- It is ahead of meta, or no stream: not this history's.
      note_invalid('the key stream holds another history')
      call('DEL', stream)
      added = add()
    end
    if is_refusal(added) then return take_back(added) end
    local lasts = try('PEXPIRE', stream, ARGV[8])
    if is_refusal(lasts) then return leave_out(lasts) end
  end
  local head = VERSION .. ' ' .. ARGV[2] .. ' ' .. epoch .. ' ' .. offset .. ' ' .. nonce
  local sent = send(head .. ' ' .. previous .. '\n' .. ARGV[3])
  if is_refusal(sent) then
    if is_kept then return leave_out(sent) end
    return take_back(sent)
  end
  return {epoch, offset, has_ended and 'ended' or string.format('%.0f', bytes + before)}
end
local function stamp(is_full)
  local forbidden = may_not_send(ARGV[1])
  if forbidden then return nil, forbidden end
  return stamp_with(function(message) return try(SEND, ARGV[1], message) end, is_full)
end
