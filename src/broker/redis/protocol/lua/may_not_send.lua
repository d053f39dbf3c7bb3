-- Asked before anything has changed, where Redis can be asked. One that has no SPUBLISH raises.
local function may_not_send(channel)
  local knows, allowed = pcall(redis.acl_check_cmd, SEND, channel, '')
  if not knows and SEND == 'SPUBLISH' then
    SEND = 'PUBLISH'
    knows, allowed = pcall(redis.acl_check_cmd, SEND, channel, '')
  end
  if knows and not allowed then
    return redis.error_reply('NOPERM no permission to publish on the channel (' .. SEND .. ')')
  end
end
