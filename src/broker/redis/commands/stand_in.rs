//! For tests: what answers commands in place of Redis.

use fred::types::Value;

use super::call_error::CallError;
use crate::broker::redis::protocol::scripts::Script;

/// Answers queries in place of Redis.
pub(crate) trait StandIn: std::fmt::Debug {
    fn answer(&self, script: &Script, args: Vec<Value>) -> Result<Value, CallError>;

    /// Whether messages come here, too, instead of through connections.
    fn takes_messages(&self) -> bool {
        false
    }
}
