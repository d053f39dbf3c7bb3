//! The side whose turn it is on a connection: its peer's, whose patience the server spares, or the
//! server's own.

use super::{Stage, Standing};
use crate::metrics::Dismissed;

impl Standing {
    /// It is the peer's turn, and closing loses nothing that cannot be had again.
    pub(super) fn is_waiting(&self) -> bool {
        match self.stage.get() {
            _ if self.is_suspended() => false,
            Stage::Fresh => !self.is_queued.get(),
            Stage::Idle | Stage::Head | Stage::Lingering => true,
            Stage::Busy | Stage::Answering | Stage::Leaving => false,
        }
    }

    /// It is the peer's turn in the middle of a request: the body comes, or the answer goes.
    pub(super) fn is_half_done(&self) -> bool {
        match self.stage.get() {
            Stage::Busy => self.is_body_unread.get(),
            stage => stage == Stage::Answering,
        }
    }

    pub(super) fn word(&self) -> Dismissed {
        match self.stage.get() {
            Stage::Idle | Stage::Lingering => Dismissed::Idle,
            Stage::Answering => Dismissed::Unread,
            _ => Dismissed::Unfinished,
        }
    }
}
