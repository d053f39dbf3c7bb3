//! Where a client stands between connect and drop.
//!
//! Plain values; how one follows from another is the matter of `closing`.

use crate::{clock::Millis, ws::close::CloseReason};

/// Where a client stands between connect and drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// Everything works.
    Open,
    /// Our Close frame is not yet fully in the kernel.
    Closing {
        reason: CloseReason,
        until: Millis,
        /// Frames are no longer waited for, only the begun one.
        hurried: bool,
        /// The peer's own Close has arrived: nothing is waited for behind ours.
        peer_closed: bool,
    },
    /// It is; the peer's answer is awaited.
    Closed { reason: CloseReason, until: Millis },
}

impl ClientState {
    /// After an error of the peer's its bytes can't be told apart any more.
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
