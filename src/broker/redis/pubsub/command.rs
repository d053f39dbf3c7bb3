//! The commands of a subscriber to Redis.

/// A command for Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Subscribe(String),
    Unsubscribe(String),
}

impl Command {
    /// As Redis takes it.
    pub(super) fn words(&self, is_sharded: bool) -> [&str; 2] {
        match (self, is_sharded) {
            (Self::Subscribe(name), false) => ["SUBSCRIBE", name],
            (Self::Unsubscribe(name), false) => ["UNSUBSCRIBE", name],
            (Self::Subscribe(name), true) => ["SSUBSCRIBE", name],
            (Self::Unsubscribe(name), true) => ["SUNSUBSCRIBE", name],
        }
    }
}
