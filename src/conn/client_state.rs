//! The stages of a client's connection between connect and drop.
//!
//! Plain values; the transitions between them are in `table/closing.rs`.

use crate::{clock::Millis, ws::close::CloseReason};

/// A stage of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// Everything works.
    Open,
    /// Our Close frame is not yet fully in the kernel.
    Closing {
        reason: CloseReason,
        until: Millis,
        /// Only the frame that has begun is waited for, no others.
        hurried: bool,
        /// The peer's own Close has arrived: nothing is waited for behind ours.
        peer_closed: bool,
    },
    /// It is in the kernel; the peer's answer is awaited.
    Closed { reason: CloseReason, until: Millis },
}

impl ClientState {
    /// After a peer's protocol error its bytes can't be told apart any more.
    pub(super) fn is_deaf(self) -> bool {
        let (Self::Closing { reason, .. } | Self::Closed { reason, .. }) = self else {
            return false;
        };
        matches!(
            reason,
            CloseReason::Protocol
                | CloseReason::Unsupported
                | CloseReason::BadUtf8
                | CloseReason::NotJson
                | CloseReason::Malformed
                | CloseReason::TooBig
                | CloseReason::Policy
        )
    }
}
