//! The two things that happen inside Redis in one step, and what they answer.
//!
//! Offset and PUBLISH must be one step, or two processes' messages arrive in another order than
//! their offsets; claiming a slot and publishing its notice must be one step, or a process that
//! dies between them takes the notice with it.

use fred::{
    error::{Error, ErrorKind},
    types::Value,
    util::sha1_hash,
};

use super::wire;
use crate::broker::Position;

/// Next offset, then PUBLISH. A refused PUBLISH takes the offset back: no hole.
const STAMP: &str = r"
local function stamp(meta, channel, kind, data, candidate, ttl_ms)
  local epoch = redis.call('HGET', meta, 'epoch')
  if not epoch then
    redis.call('DEL', meta)
    redis.call('HSET', meta, 'epoch', candidate)
    epoch = candidate
  end
  local offset = redis.call('HINCRBY', meta, 'offset', 1)
  redis.call('PEXPIRE', meta, ttl_ms)
  local header = VERSION .. ' ' .. kind .. ' ' .. epoch .. ' ' .. string.format('%.0f', offset)
  local sent = redis.pcall('PUBLISH', channel, header .. '\n' .. data)
  if type(sent) == 'table' and sent.err then
    redis.call('HINCRBY', meta, 'offset', -1)
    return nil, sent
  end
  return {epoch, offset}
end
";

const PUBLISH: &str = r"
local done, refused = stamp(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return done or refused
";

/// Answers `{outcome, time}` or `{'sent', time, epoch, offset}`. A claim that names another slot
/// than Redis' clock does nothing: it may have waited in a paused server.
const PUBLISH_ONCE: &str = r"
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local interval_ms = tonumber(ARGV[6])
local slot = math.floor(now_ms / interval_ms)
if ARGV[7] ~= string.format('%.0f', slot) then return {'other', now_ms} end
local last = tonumber(redis.call('GET', KEYS[2]) or '-1')
if last and last >= slot then return {'taken', now_ms} end
redis.call('SET', KEYS[2], ARGV[7], 'PX', math.max(2 * interval_ms, 60000))
local done, refused = stamp(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if not done then
  redis.call('DEL', KEYS[2])
  return refused
end
return {'sent', now_ms, done[1], done[2]}
";

/// A script and the name Redis knows it by.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) source: String,
    pub(super) sha1: String,
}

/// Both scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) publish: Script,
    pub(super) publish_once: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self { publish: Script::new(PUBLISH), publish_once: Script::new(PUBLISH_ONCE) }
    }
}

impl Script {
    fn new(body: &str) -> Self {
        let source = format!("local VERSION = '{}'\n{STAMP}{body}", wire::VERSION);
        Self { sha1: sha1_hash(&source), source }
    }
}

/// What became of a slot inside Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Redis' clock is in another slot; nothing happened.
    Other,
    /// Someone had it.
    Taken,
    /// It was ours, and the notice went out.
    Sent(Position),
}

/// Reads the answer of the publishing script.
pub(super) fn position(value: Value) -> Result<Position, Error> {
    let (epoch, offset): (String, u64) = value.convert()?;
    if wire::is_epoch(&epoch) {
        Ok(Position { epoch: epoch.into(), offset })
    } else {
        Err(Error::new(ErrorKind::Protocol, "the stored epoch is none"))
    }
}

/// Reads the answer of the slot script: the outcome, and Redis' time in milliseconds.
pub(super) fn claim(value: Value) -> Result<(Claim, u64), Error> {
    let mut parts = value.into_array().into_iter();
    let mut part = || parts.next().ok_or_else(|| Error::new(ErrorKind::Protocol, "short answer"));
    let outcome: String = part()?.convert()?;
    let now_ms: u64 = part()?.convert()?;
    let claim = match outcome.as_str() {
        "other" => Claim::Other,
        "taken" => Claim::Taken,
        _ => Claim::Sent(position(Value::Array(vec![part()?, part()?]))?),
    };
    Ok((claim, now_ms))
}
