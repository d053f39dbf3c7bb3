//! The rest of a resuming client's history: steps of messages, and holes to be reported.
//!
//! Plain values; `table/replaying.rs` decides when a step is taken and what follows it.

use std::collections::VecDeque;

use crate::{
    broker::{Missed, Position},
    channel::ChannelName,
    hub::Hole,
};

/// A stretch of history that a client is still to be given.
#[derive(Debug)]
pub(in crate::conn) struct Step {
    /// The channel,
    pub(in crate::conn) channel: ChannelName,
    /// the messages after this one,
    pub(in crate::conn) after: Position,
    /// up to this offset.
    pub(in crate::conn) to: u64,
}

/// The rest of a held client's history.
///
/// # Invariants
/// There is one exactly while the client's logs wait.
#[derive(Debug, Default)]
pub(in crate::conn) struct Replay {
    pub(in crate::conn) steps: VecDeque<Step>,
    /// The next piece follows as soon as others had their turn.
    pub(in crate::conn) is_due: bool,
    /// It is joining a channel: where it begins there is still to be found out.
    pub(in crate::conn) joining: bool,
    /// Cuts of its logs in the meantime, one per channel: to be reported in their place.
    pub(in crate::conn) holes: Vec<Hole>,
    /// The budget's charge for it.
    pub(in crate::conn) charged_bytes: usize,
}

impl Replay {
    pub(in crate::conn) fn cost(&self) -> usize {
        self.steps.capacity() * size_of::<Step>() + self.holes.capacity() * size_of::<Hole>()
    }

    pub(in crate::conn) fn is_over(&self) -> bool {
        self.steps.is_empty() && !self.joining
    }

    /// One more hole, behind those before it.
    pub(in crate::conn) fn push_hole(&mut self, hole: Hole) {
        let Some(known) = self.holes.iter_mut().find(|known| known.channel == hole.channel) else {
            return self.holes.push(hole);
        };
        if known.missed.epoch == hole.missed.epoch {
            known.missed.to = hole.missed.to;
        } else {
            known.missed = Missed { from: 1, ..hole.missed };
        }
    }
}
