//! Plain values: what is still written to a client before its connection ends.
//!
//! How a client is closed is the subject of `close`.

/// The output that still precedes a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The begun frame and the frames queued for this client alone.
    Frame,
    /// Also everything that was published on its channels up to now.
    Log,
}

/// How clients are closed that were subscribed when messages were lost.
#[derive(Debug)]
pub(super) struct Parting {
    /// They get nothing that was published after this offset.
    pub(super) head: u64,
    pub(super) frame: Box<[u8]>,
}
