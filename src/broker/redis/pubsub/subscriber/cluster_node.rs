//! What is special about a subscriber on one server of a Redis Cluster.
//!
//! Channels are sharded there: SSUBSCRIBE on the master of the channel's slot, so that a message
//! goes to those who want it and not through the whole cluster. When a slot moves, the server
//! ends the subscription, or refuses it and says where to go. Here that only becomes news; where
//! the channel goes is decided in `cluster_view`.

use std::cell::Cell;

use fred::prelude::Server;

use super::Subscriber;
use crate::{
    broker::redis::pubsub::{command::Command, subscriptions::Subscriptions},
    telemetry::seldom,
};

/// One server, as a subscriber sees it.
#[derive(Debug)]
pub(crate) struct ClusterNode {
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
    pub(crate) fn is_sharded(&self) -> bool {
        !self.is_plain.get()
    }
}

impl Subscriber {
    /// The connection has ended. Another one may be to a newer Redis, or elsewhere.
    pub(crate) fn lost(&self) {
        if let (Some(node), Some(hints)) = (&self.node, &self.router.destination.hints) {
            node.is_plain.set(false);
            hints.stir();
        }
    }

    /// Sees to a refused command that only has to go elsewhere, or to be another one. Who waits
    /// for it goes on waiting.
    pub(crate) fn redirect(&self, command: &Command, error: &str) -> bool {
        let (Some(node), Some(hints)) = (&self.node, &self.router.destination.hints) else {
            return false;
        };
        // Whatever it is: the map may be wrong.
        let is_moved = hints.hear(error, &node.server);
        let is_unknown = is_unknown(error, command.words(true)[0]);
        if !is_moved && !is_unknown {
            return false;
        }
        let mut subscriptions = self.subscriptions.borrow_mut();
        match command {
            Command::Subscribe(name) => subscriptions.postpone(name),
            Command::Unsubscribe(_) => _ = subscriptions.answered(command, true),
        }
        if is_unknown {
            if !node.is_plain.replace(true) {
                seldom!(warn, "this Redis has no sharded channels", server = %node.server);
            }
            subscriptions.retry_refused();
        }
        true
    }

    /// The server has ended a subscription: its slot has moved.
    pub(crate) fn ended(&self, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        self.subscriptions.borrow_mut().ended(name);
        if let (Some(node), Some(hints)) = (&self.node, &self.router.destination.hints) {
            hints.witnessed(node.server());
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.subscriptions.borrow().is_connected()
    }

    /// Changes what is wanted here.
    pub(crate) fn change<R>(&self, act: impl FnOnce(&mut Subscriptions) -> R) -> R {
        let result = act(&mut self.subscriptions.borrow_mut());
        self.changed.notify_one();
        result
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
