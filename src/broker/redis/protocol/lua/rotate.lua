-- The epoch `ARGV[3]` is over, if it still is the channel's: it goes on under the candidate
-- `ARGV[1]`, which is remembered for `ARGV[2]`. A nonce before its first message, `ARGV[4]`, shows
-- that it is not the channel's first one. Where the epoch had got to is remembered (of the newest
-- `ARGV[5]`), and the others that the caller heard in its stead, `ARGV[6]`: so everyone who had not
-- got there knows that something is lost.
local held = stream_position()
local epoch = held[1]
if not epoch or epoch == ARGV[3] then
  local ended = {}
  if epoch then ended[1] = table.concat({epoch, held[2], held[3]}, ':') .. ARGV[6] end
  for before in string.gmatch(held[4], '%S+') do
    if #ended < tonumber(ARGV[5]) then ended[#ended + 1] = before end
  end
  call('DEL', KEYS[1], KEYS[2])
  call('HSET', KEYS[1], 'epoch', ARGV[1], 'offset', 0, 'nonce', ARGV[4],
    'ended', table.concat(ended, ' '))
  call('PEXPIRE', KEYS[1], ARGV[2])
end
return stream_position()
