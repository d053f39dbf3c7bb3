-- Answers `{epoch, offset, nonce, ended, milliseconds the stream still lives, entries}`: those from
-- the offset `first` on, the newest first, at most `left` of them, until they have `bytes_max`
-- bytes, counted as where they are kept. `chunk` at a time: what does not fit was read in vain.
local function history(held, first, left, bytes_max, chunk)
  local entries, bytes, last = {}, 0, '+'
  while left > 0 and bytes < bytes_max do
    local count = math.min(left, chunk)
    local some = try('XREVRANGE', KEYS[2], last, first, 'COUNT', count)
    if is_of_wrong_type(some) then break end
    if is_refusal(some) then raise(some) end
    for _, entry in ipairs(some) do
      if bytes >= bytes_max then break end
      entries[#entries + 1] = entry
      bytes = bytes + #(entry[2][4] or '') + MESSAGE_COST
    end
    if #some < count then break end
    left = left - count
    last = string.format('%.0f', string.match(some[count][1], '^%d+') - 1)
  end
  return {held[1], held[2], held[3], held[4], call('PTTL', KEYS[2]), entries}
end
