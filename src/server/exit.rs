//! The end of a server's run as a value: `main` alone ends the process.

use tracing::{error, info, warn};

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All clients left, or were told to.
    Drained,
    /// Another process has taken all over.
    HandedOver,
    /// A client's descriptor was dropped before its Close frame was in the kernel, or the third
    /// signal came, or shards hung and their clients were not waited for.
    CutOff,
    /// A shard died.
    ShardDied,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Drained | Self::HandedOver => 0,
            Self::ShardDied => 1,
            Self::CutOff => 3,
        }
    }
}

/// How the serving came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The drain ran its course (maybe hurried by a second signal): shut the shards down.
    Stopped,
    /// As with [`End::Stopped`], but clients of shards that hung were not waited for.
    ShardsHung,
    /// Third signal: leave everything as it is.
    AtOnce,
    /// A shard died; the others have closed their clients.
    ShardDied,
}

impl End {
    /// The exit once the shards have ended, or have not done so `in_time`, and with so many clients
    /// cut off.
    pub(super) fn exit(self, in_time: bool, cut_off: usize) -> Exit {
        match self {
            Self::AtOnce => return Exit::CutOff,
            Self::ShardDied => return Exit::ShardDied,
            Self::Stopped | Self::ShardsHung => {}
        }
        if !in_time {
            error!("a shard did not end in time: exiting without it");
            return Exit::CutOff;
        }
        if cut_off > 0 {
            warn!(clients = cut_off, "exiting: clients were cut off without a Close frame");
            return Exit::CutOff;
        }
        if self == Self::ShardsHung {
            warn!("exiting: shards that hung have woken and closed their clients after all");
            return Exit::CutOff;
        }
        info!("drained: exiting");
        Exit::Drained
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Exit};

    /// The log has told of exit code 3 when a drain waits for hanging shards no longer: it remains
    /// that, though they wake and close all clients in time.
    #[test]
    fn a_shard_that_wakes_late_does_not_change_the_exit() {
        for (end, exit) in [
            (End::Stopped, Exit::Drained),
            (End::ShardsHung, Exit::CutOff),
            (End::AtOnce, Exit::CutOff),
            (End::ShardDied, Exit::ShardDied),
        ] {
            assert_eq!(end.exit(true, 0), exit, "{end:?}");
            let unclean = if end == End::ShardDied { exit } else { Exit::CutOff };
            assert_eq!([end.exit(false, 0), end.exit(true, 1)], [unclean; 2], "{end:?}");
        }
    }
}
