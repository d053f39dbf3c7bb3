//! What becomes of a client that is too slow.

/// What happens to a client that falls further behind than the backlog allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// It is closed, with [`super::HubSettings::slow_close_frame`] if it knows frames.
    Close,
    /// It goes on with the newest complete message.
    Skip,
}
