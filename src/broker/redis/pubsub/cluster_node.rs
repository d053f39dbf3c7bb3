//! The special rules for a subscriber on one server of a Redis Cluster.
//!
//! Channels are sharded there: SSUBSCRIBE on the primary of the channel's slot, so that a message
//! goes to its subscribers and not through the whole cluster. When a slot moves, the server ends
//! the subscription, or refuses it and says where to go. This file only reports that;
//! `sharded` decides where the channel goes.

use std::cell::Cell;

use fred::prelude::Server;

use super::command::Command;
use crate::telemetry::seldom;

/// One server, as a subscriber sees it.
#[derive(Debug)]
pub(super) struct ClusterNode {
    server: Server,
    /// It is too old for sharded channels: all its messages go to the whole cluster.
    is_plain: Cell<bool>,
}

impl ClusterNode {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, is_plain: Cell::new(false) }
    }

    pub(crate) fn server(&self) -> Server {
        self.server.clone()
    }

    /// Whether its channels are sharded, as far as is known.
    pub(super) fn is_sharded(&self) -> bool {
        !self.is_plain.get()
    }

    /// Another connection may be to a newer Redis.
    pub(super) fn disconnected(&self) {
        self.is_plain.set(false);
    }

    /// Whether the server does not know the sharded `command`, as `error` says. From then on its
    /// channels are plain ones.
    pub(super) fn is_too_old(&self, command: &Command, error: &str) -> bool {
        let is_unknown = is_unknown(error, command.words(true)[0]);
        if is_unknown && !self.is_plain.replace(true) {
            seldom!(warn, "this Redis has no sharded channels", server = %self.server);
        }
        is_unknown
    }
}

/// Whether the server does not know `word`.
fn is_unknown(error: &str, word: &str) -> bool {
    let quoted = error.strip_prefix("ERR unknown command ");
    quoted.is_some_and(|quoted| quoted.trim_start_matches(['\'', '`']).starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_told_from_a_refused_one() {
        let unknown = |error| is_unknown(error, "SSUBSCRIBE");
        assert!(unknown("ERR unknown command 'SSUBSCRIBE', with args beginning with: 'a' "));
        assert!(unknown("ERR unknown command `SSUBSCRIBE`, with args beginning with: `a`, "));
        assert!(!unknown(
            "ERR unknown command 'SUBSCRIBE', with args beginning with: 'SSUBSCRIBE'"
        ));
        assert!(!unknown("NOPERM this user has no permissions to run the 'ssubscribe' command"));
    }
}
