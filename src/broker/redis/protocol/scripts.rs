//! What happens inside Redis in one step, as Lua, and the names it is called by.
//!
//! Offset, stream and PUBLISH must be one step, or two processes' messages arrive in another
//! order than their offsets, and a history lacks what was sent; claiming a slot and publishing
//! its notice must be one step, or a process that dies between them takes the notice with it.
//! Every script but the last two has the keys meta and stream, of one channel. What they answer is
//! read in `replies`.

use fred::util::sha1_hash;

use super::{
    envelope,
    replies::NOTED,
    stamping::{MAY_NOT_SEND, STAMP},
    trial::TRIAL,
};
use crate::limits::REDIS_MESSAGE_COST_BYTES;

/// What is refused is told with the command's name: Redis leaves it out where a script is refused
/// something. Before Redis 7 nothing but text can be raised.
const CALL: &str = r"
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
";

/// Anyone with the rights can write our keys. What is not as these scripts write it counts as not
/// there, and is written anew; the answer ends with a note of it, which `replies::note` takes off.
const SOUND: &str = r"
local NOTE
local function odd(what) NOTE = NOTE or NOTED .. what end
local function noted(answer)
  if NOTE and type(answer) == 'table' and not answer.err then answer[#answer + 1] = NOTE end
  return answer
end
local function is_of_wrong_type(answer)
  return is_refusal(answer) and string.find(answer.err, 'WRONGTYPE', 1, true)
end
local function get(key)
  local value = try('GET', key)
  if is_of_wrong_type(value) then
    odd('a key is no string')
    return false
  end
  if is_refusal(value) then raise(value) end
  return value
end
local function is_number(text, last)
  local is_plain = text and #text <= 16 and (text == '0' or string.match(text, '^[1-9]%d*$'))
  return is_plain and tonumber(text) <= last
end
local function is_epoch(text)
  return text and #text <= 32 and string.match(text, '^[%w_-]+$')
    and not string.find(text, '^empty%-')
end
local function sound_meta()
  local none = {false, '0', '0', ''}
  local held = try('HMGET', KEYS[1], 'epoch', 'offset', 'nonce', 'ended')
  if is_of_wrong_type(held) then
    odd('the key meta is no hash')
    return none
  end
  if is_refusal(held) then raise(held) end
  if not held[1] then return none end
  local last = 9007199254740991
  if is_epoch(held[1]) and is_number(held[2], last) and is_number(held[3], last) then
    if not held[4] or #held[4] > 2000 then held[4] = '' end
    return held
  end
  odd('the key meta holds no position')
  return none
end
";

/// `KEYS[3]`, if there: the idempotency key, which lives for `ARGV[12]`. `ARGV[11]` names what
/// there must not be more of: new `keys` or new `channels`, and what would need it is answered with
/// that word and not done; or bytes of `histories`. What was published before is answered with a
/// third word, `known`.
const PUBLISH: &str = r"
local key, full = KEYS[3], ARGV[11] or ''
if key then
  local epoch, offset = string.match(get(key) or '', '^(%S+) (%d+)$')
  if is_epoch(epoch) and is_number(offset, 9007199254740991) then
    return {epoch, offset, 'known'}
  end
  if string.find(full, 'keys', 1, true) then return {'keys'} end
end
if string.find(full, 'channels', 1, true) and not sound_meta()[1] then
  return {'channels'}
end
local done, refused = stamp(string.find(full, 'histories', 1, true))
if done and key then
  try('SET', key, done[1] .. ' ' .. done[2], 'PX', ARGV[12])
end
return noted(done or refused)
";

/// `KEYS[3]` is the slot, `ARGV[11]` its length, `ARGV[12]` its number. Answers `{outcome, time}`
/// or `{'sent', time, epoch, offset}`. A claim that names another slot than Redis' clock does
/// nothing: it may have waited in a paused server. A mark that is further ahead than the next slot
/// is of a clock that was set back since: it does not count, or there were no notice until then.
const PUBLISH_ONCE: &str = r"
local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local interval_ms = tonumber(ARGV[11])
local slot = math.floor(now_ms / interval_ms)
if ARGV[12] ~= string.format('%.0f', slot) then return {'other', now_ms} end
local last = tonumber(get(KEYS[3]) or '-1')
if last and last >= slot and last <= slot + 1 then return {'taken', now_ms} end
call('SET', KEYS[3], ARGV[12], 'PX', math.max(2 * interval_ms, 60000))
local done, refused = stamp()
if not done then
  call('DEL', KEYS[3])
  return refused
end
return noted({'sent', now_ms, done[1], done[2]})
";

/// Where the channel stands, `{epoch, offset, nonce, ended}`: without an epoch if nobody has
/// published. `ended` has the ends of histories that [`ROTATE`] knew of, `EPOCH:OFFSET:NONCE`,
/// those of one time with commas, the newest first.
const STAND: &str = r"
local function standing() return sound_meta() end
";

/// Answers `{epoch, offset, nonce, ended, milliseconds the stream still lives, entries}`: those
/// from the offset `first` on, the newest first, at most `left` of them, until they have
/// `bytes_max` bytes, counted as where they are kept. `chunk` at a time: what does not fit was read
/// in vain.
const HISTORY: &str = r"
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
";

/// Nothing is stored: of a channel that nobody has published to, nothing is answered. With
/// `ARGV[1]`, the history too, by `ARGV[3]` and the following, unless there is nothing after the
/// offset `ARGV[2]` of the epoch `ARGV[1]`.
const POSITION: &str = r"
local held = standing()
if not held[1] then return false end
if not ARGV[1] or (held[1] == ARGV[1] and tonumber(held[2]) <= tonumber(ARGV[2])) then
  return held
end
return history(held, ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
";

/// The epoch `ARGV[3]` is over, if it still is the channel's: it goes on under the candidate
/// `ARGV[1]`, which is remembered for `ARGV[2]`. A nonce before its first message, `ARGV[4]`, shows
/// that it is not the channel's first one. Where the epoch had got to is remembered (of the newest
/// `ARGV[5]`), and the others that the caller heard in its stead, `ARGV[6]`: so everyone who had
/// not got there knows that something is lost.
const ROTATE: &str = r"
local held = standing()
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
return standing()
";

/// The eras that count, the newest first, from `KEYS[1]`: a new one, `ARGV[1]`, for `ARGV[2]`, if
/// there is none that lives for `ARGV[3]` yet.
const ERA: &str = r"
local known, lives_ms = get(KEYS[1]), call('PTTL', KEYS[1])
if known and not string.match(known, '^empty%-[%w_-]+') then known = false end
if not known or lives_ms < tonumber(ARGV[3]) then
  local before = known and string.match(known, '^%S+')
  known = before and ARGV[1] .. ' ' .. before or ARGV[1]
  call('SET', KEYS[1], known, 'PX', ARGV[2])
end
return known
";

/// The history alone, by `ARGV[1]` and the following; of a channel that was never used, none.
const READ: &str = r"
local held = standing()
if not held[1] then return false end
return history(held, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
";

/// The lease `KEYS[1]` of the raw channel's bridge: does what `ARGV[1]` says for the holder
/// `ARGV[2]` in its attempt `ARGV[3]`. It lives for `ARGV[4]`; what becomes of it is published on
/// `ARGV[5]` in the same step. Answers `{1 if it is the holder's, milliseconds until it is free}`.
const LEASE: &str = r"
local what, holder, name = ARGV[1], ARGV[2], ARGV[2] .. ' ' .. ARGV[3]
local held, lives_ms = get(KEYS[1]), call('PTTL', KEYS[1])
if held and (lives_ms < 0 or lives_ms > 60000) then
  odd('a lease has no end')
  held = false
end
local is_ours = held == name
if what == 'take' then is_ours = not held or string.match(held, '^%S+') == holder end
if not is_ours then return {0, math.max(lives_ms, 0)} end
-- First what may be refused: whoever hears of it relies on it.
if what == 'release' then
  call('DEL', KEYS[1])
else
  call('SET', KEYS[1], name, 'PX', ARGV[4])
end
local word = ({take = 'taken', leave = 'leaving', release = 'released'})[what]
local told = word and try('PUBLISH', ARGV[5], word .. ' ' .. name)
if is_refusal(told) then
  -- Others may have the right that is lacking here.
  if what == 'take' and not held then call('DEL', KEYS[1]) end
  return told
end
return noted({1, 0})
";

/// Says in `KEYS[1]` for `ARGV[2]` that the process `ARGV[1]` takes clients; without `ARGV[2]`,
/// answers 1 if another process has said so.
const PRESENCE: &str = r"
if ARGV[2] then
  call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 0
end
local last = get(KEYS[1])
return (last and last ~= ARGV[1]) and 1 or 0
";

/// A script and the name Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: String,
    pub(crate) sha1: String,
}

/// All scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) publish: Script,
    pub(crate) publish_once: Script,
    pub(crate) position: Script,
    pub(crate) rotate: Script,
    pub(crate) read: Script,
    pub(crate) era: Script,
    pub(crate) lease: Script,
    pub(crate) presence: Script,
    pub(crate) trial: Script,
}

impl Scripts {
    /// `is_cluster`: messages go to the subscribers of one node, where Redis can do that.
    pub(crate) fn new(is_cluster: bool) -> Self {
        let send = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let may_send = format!("local SEND = '{send}'\n{MAY_NOT_SEND}");
        let stamp = format!("{may_send}{STAMP}");
        let history = format!("{STAND}{HISTORY}");
        Self {
            publish: Script::new(&stamp, PUBLISH),
            publish_once: Script::new(&stamp, PUBLISH_ONCE),
            position: Script::new(&history, POSITION),
            rotate: Script::new(STAND, ROTATE),
            read: Script::new(&history, READ),
            era: Script::new("", ERA),
            lease: Script::new("", LEASE),
            presence: Script::new("", PRESENCE),
            trial: Script::new(&stamp, TRIAL),
        }
    }

    /// Each of them.
    pub(crate) fn all(&self) -> [&Script; 9] {
        let Self { publish, publish_once, position, rotate, read, .. } = self;
        let Self { era, lease, presence, trial, .. } = self;
        [publish, publish_once, position, rotate, read, era, lease, presence, trial]
    }
}

impl Script {
    fn new(parts: &str, body: &str) -> Self {
        let version = envelope::VERSION;
        let source = format!(
            "local VERSION = '{version}'\nlocal NOTED = '{NOTED}'\nlocal MESSAGE_COST = \
             {REDIS_MESSAGE_COST_BYTES}\n{CALL}{SOUND}{parts}{body}"
        );
        // Every connection brings it: what is for people stays here.
        let lines = source.lines().map(str::trim_start);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("--"));
        let source = lines.collect::<Vec<_>>().join("\n");
        Self { sha1: sha1_hash(&source), source }
    }
}
