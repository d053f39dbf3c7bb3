//! All that waits in an outbox, part by part, as it is recorded.

use std::iter;

use super::Outbox;

/// A part of what waits.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) enum Waiting<'a> {
    /// The rest of a log's frame.
    OfLog(&'a [u8]),
    /// Bytes of the client's own.
    Own(&'a [u8]),
    /// Shared bytes, as [`Outbox::push_part`] takes them.
    Shared { share: u32, from: usize, to: usize, head: usize, of_log: bool },
}

impl Waiting<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::OfLog(bytes) | Self::Own(bytes) => bytes.is_empty(),
            Self::Shared { from, to, .. } => from >= to,
        }
    }
}

impl Outbox {
    /// All that waits, in its order.
    pub(in crate::hub) fn waiting(&self) -> impl Iterator<Item = Waiting<'_>> {
        let carried_to = self.carry.max(self.sent);
        let mut starts = vec![carried_to];
        starts.extend(self.shares.iter().map(|share| share.at.max(carried_to)));
        let carried = Waiting::OfLog(&self.bytes[self.sent..carried_to]);
        let parts = starts.into_iter().enumerate().flat_map(move |(number, start)| {
            let end = self.shares.get(number).map_or(self.bytes.len(), |share| share.at);
            let own = Waiting::Own(&self.bytes[start..end.max(start)]);
            let shared = self.shares.get(number).map(|it| Waiting::Shared {
                share: it.share,
                from: it.sent,
                to: it.length,
                head: it.head,
                of_log: it.is_of_log,
            });
            iter::once(own).chain(shared)
        });
        iter::once(carried).chain(parts).filter(|waiting| !waiting.is_empty())
    }

    /// How many of the client's own bytes end the frame that it has got in part, without those that
    /// come from a log.
    pub(in crate::hub) fn begun_bytes(&self) -> usize {
        self.begun_end.saturating_sub(self.carry.max(self.sent))
    }
}
