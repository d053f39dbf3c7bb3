//! The principal of a publication: the owner of idempotency keys and of shares of bounded
//! resources.

use std::fmt;

/// All publishers with the same right. The same key used by two principals names two messages, and
/// the resources of one are bounded so that room is left for the others.
///
/// Principals are ordered and hashed, so that code which keeps state for each need not know how
/// many there are: principals named by their credentials may join these. The lesser one has shown
/// more: a history to which several have contributed belongs to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// Holders of an API token, programs of this machine where none is needed, and the server
    /// itself.
    Api,
    /// Clients and pages that show no token.
    Anonymous,
}

/// A word for the log.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "api",
            Self::Anonymous => "anonymous",
        })
    }
}
