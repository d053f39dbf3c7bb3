//! The stages of an HTTP connection, from accept to its end.

/// The stage of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Stage {
    /// Accepted; the first request is not complete.
    Fresh,
    /// Between two requests; nothing of the next one has come.
    Idle,
    /// Bytes of the next request have come.
    Head,
    /// A request is being worked on.
    Busy,
    /// An answer is encoded and not yet all in the kernel.
    Answering,
    /// The last answer is given; what the peer still sends is thrown away.
    Lingering,
    /// Sent away: it ends at its task's next turn.
    Leaving,
}
