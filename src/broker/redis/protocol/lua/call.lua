-- What is refused is told with the command's name: Redis leaves it out where a script is refused
-- something. Before Redis 7 nothing but text can be raised.
local function is_refusal(answer) return type(answer) == 'table' and answer.err end
local function try(command, ...)
  local answer = redis.pcall(command, ...)
  if is_refusal(answer) then answer.err = answer.err .. ' (' .. command .. ')' end
  return answer
end
local function raise(refused)
  if redis.acl_check_cmd then error(refused) end
  error('-' .. refused.err, 0)
end
local function call(command, ...)
  local answer = try(command, ...)
  if is_refusal(answer) then raise(answer) end
  return answer
end
