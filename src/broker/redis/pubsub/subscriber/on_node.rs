//! A subscriber on one server of a Redis Cluster: the moves of slots, and servers that are too old
//! for sharded channels.

use super::Subscriber;
use crate::broker::redis::pubsub::{command::Command, subscriptions::Subscriptions};

impl Subscriber {
    /// The connection has ended. Another one may be to a newer Redis, or elsewhere.
    pub(super) fn lost(&self) {
        if let (Some(node), Some(hints)) = (&self.node, &self.router.destination.hints) {
            node.disconnected();
            hints.request_refresh();
        }
    }

    /// Handles a refused command that only has to go elsewhere, or to be another one. A waiter goes
    /// on waiting.
    pub(super) fn redirect(&self, command: &Command, error: &str) -> bool {
        let (Some(node), Some(hints)) = (&self.node, &self.router.destination.hints) else {
            return false;
        };
        // In any case: the map may be wrong.
        let is_moved = hints.note_redirection(error, &node.server());
        let is_too_old = node.is_too_old(command, error);
        if !is_moved && !is_too_old {
            return false;
        }
        let mut subscriptions = self.subscriptions.borrow_mut();
        match command {
            Command::Subscribe(name) => subscriptions.postpone(name),
            Command::Unsubscribe(_) => _ = subscriptions.answered(command, true),
        }
        if is_too_old {
            subscriptions.retry_refused();
        }
        true
    }

    /// The server has ended a subscription: its slot has moved.
    pub(crate) fn ended(&self, name: &[u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        self.subscriptions.borrow_mut().ended(name);
        if let (Some(node), Some(hints)) = (&self.node, &self.router.destination.hints) {
            hints.note_change_at(node.server());
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.subscriptions.borrow().is_connected()
    }

    /// Changes the channels that are wanted here.
    pub(crate) fn change<R>(&self, act: impl FnOnce(&mut Subscriptions) -> R) -> R {
        let result = act(&mut self.subscriptions.borrow_mut());
        self.changed.notify_one();
        result
    }
}
