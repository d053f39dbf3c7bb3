//! Who publishes: whose idempotency keys they are, and whose share of what is bounded.

/// Everybody who speaks with the same right. The same key said by two of them names two messages,
/// and what one of them takes up is bounded so that room is left for the others.
///
/// Ordered and hashed, so that whoever keeps something for each of them need not know how many
/// there are: principals that are named by what they show may join these. The lesser one shows
/// more: a history that several have said something of is the least one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// Whoever shows an API token, programs of this machine where none is needed, and the server
    /// itself.
    Api,
    /// Clients and pages that show nothing.
    Anonymous,
}
