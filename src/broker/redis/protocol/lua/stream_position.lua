-- Where the channel stands, `{epoch, offset, nonce, ended}`: without an epoch if nobody has
-- published. `ended` has the ends of histories that `rotate.lua` knew of, `EPOCH:OFFSET:NONCE`,
-- those of one time with commas, the newest first.
local function stream_position() return checked_meta() end
