//! What still goes out to a client before its end.
//!
//! Plain values; how a client is closed is the matter of `close`.

/// What still goes out before a Close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The begun frame and what was queued for this client alone.
    Frame,
    /// All that was published on its channels up to now, too.
    Log,
}

/// How those part who were there when something was lost.
#[derive(Debug)]
pub(super) struct Parting {
    /// They get nothing behind this.
    pub(super) head: u64,
    pub(super) frame: Box<[u8]>,
}
