//! The scripts that run inside Redis in one step, in Lua, and the names by which they are called.
//!
//! Offset, stream and PUBLISH must be one step, or two processes' messages arrive in another order
//! than their offsets, and a history lacks sent messages; claiming a slot and publishing its notice
//! must be one step, or a process that dies between them takes the notice with it. Every script but
//! those of the lease, of presence and of announcements has the keys meta and stream, of one
//! channel. Their parameters are put together in `arguments`, their answers are read in `replies`.

use fred::util::sha1_hash;

use super::{envelope, replies::NOTED};
use crate::limits::REDIS_MESSAGE_COST_BYTES;

// The beginning of every script.
const CALL: &str = include_str!("lua/call.lua");
const CHECKED_META: &str = include_str!("lua/checked_meta.lua");
// Parts that some have in common.
const MAY_NOT_SEND: &str = include_str!("lua/may_not_send.lua");
const STAMP: &str = include_str!("lua/stamp.lua");
const STREAM_POSITION: &str = include_str!("lua/stream_position.lua");
const UNIX_MS: &str = include_str!("lua/unix_ms.lua");
const HISTORY: &str = include_str!("lua/history.lua");

/// A script and the name Redis knows it by.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) source: String,
    pub(crate) sha1: String,
}

/// The text of a script that is sent to Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// Its checksum: it runs if Redis knows it.
    Sha1,
    /// All of it: it runs whether Redis knows it or not.
    Source,
}

/// All scripts.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) publish: Script,
    pub(crate) publish_once: Script,
    pub(crate) position: Script,
    pub(crate) rotate: Script,
    pub(crate) read: Script,
    pub(crate) empty_epoch: Script,
    pub(crate) lease: Script,
    pub(crate) presence: Script,
    pub(crate) announce: Script,
    pub(crate) bans: Script,
    pub(crate) trial: Script,
}

impl Scripts {
    /// `is_cluster`: messages go to the subscribers of one node, where Redis can do that.
    pub(crate) fn new(is_cluster: bool) -> Self {
        let send = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let may_send = format!("local SEND = '{send}'\n{MAY_NOT_SEND}");
        let stamp = format!("{may_send}{STAMP}");
        let history = format!("{STREAM_POSITION}{HISTORY}");
        Self {
            publish: Script::new(&stamp, include_str!("lua/publish.lua")),
            publish_once: Script::new(&stamp, include_str!("lua/publish_once.lua")),
            position: Script::new(&history, include_str!("lua/position.lua")),
            rotate: Script::new(STREAM_POSITION, include_str!("lua/rotate.lua")),
            read: Script::new(&history, include_str!("lua/read.lua")),
            empty_epoch: Script::new("", include_str!("lua/empty_epoch.lua")),
            lease: Script::new("", include_str!("lua/lease.lua")),
            presence: Script::new("", include_str!("lua/presence.lua")),
            announce: Script::new(UNIX_MS, include_str!("lua/announce.lua")),
            bans: Script::new(UNIX_MS, include_str!("lua/bans.lua")),
            trial: Script::new(&stamp, include_str!("lua/trial.lua")),
        }
    }

    /// Each of them.
    pub(crate) fn all(&self) -> [&Script; 11] {
        let Self { publish, publish_once, position, rotate, read, .. } = self;
        let Self { empty_epoch, lease, presence, announce, bans, trial, .. } = self;
        [
            publish,
            publish_once,
            position,
            rotate,
            read,
            empty_epoch,
            lease,
            presence,
            announce,
            bans,
            trial,
        ]
    }
}

impl Script {
    fn new(parts: &str, body: &str) -> Self {
        let version = envelope::VERSION;
        let source = format!(
            "local VERSION = '{version}'\nlocal NOTED = '{NOTED}'\nlocal MESSAGE_COST = \
             {REDIS_MESSAGE_COST_BYTES}\n{CALL}{CHECKED_META}{parts}{body}"
        );
        // Every connection loads it: the parts for people stay here.
        let lines = source.lines().map(str::trim_start);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("--"));
        let source = lines.collect::<Vec<_>>().join("\n");
        Self { sha1: sha1_hash(&source), source }
    }
}
