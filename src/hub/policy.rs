//! The operator's choice of what happens to slow clients.
//!
//! The backlog bounds how far a client may fall behind in one log; this decides what follows. How a
//! client is then closed or moved on is in `cut` and `relief`.

/// The treatment of a client that falls further behind than the backlog allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// It is closed, with [`super::HubSettings::slow_close_frame`] if its encoding has frames.
    Close,
    /// It continues with the newest complete message.
    Skip,
}
