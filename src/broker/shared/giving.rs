//! The broker's state on its way to another process, while this one still publishes.
//!
//! Bytes come out, for a transport to write; what they are is known to `record` alone.

use std::sync::Arc;

use super::{Mode, Shared};
use crate::{
    broker::{
        embedded::{Embedded, SequencerGiving},
        history::PartBounds,
        record::BrokerPart,
    },
    clock::Clock,
    record,
};

/// A process's broker as it is handed over: dropping it ends that, and nothing of it is left.
///
/// A thread takes chunks in rounds: the first one brings all that the broker knows, and each
/// further one what has changed since. Once nobody publishes any more, the rest follows.
#[derive(Debug)]
pub struct BrokerGiving {
    clock: Clock,
    embedded: Arc<Embedded>,
    state: SequencerGiving,
}

impl Shared {
    /// Begins to hand the state of the broker over. None if there is none that a process could
    /// take over: Redis has it.
    #[must_use]
    pub fn give(&self) -> Option<BrokerGiving> {
        let Mode::Embedded(embedded) = &self.mode else { return None };
        let clock = self.health.clock;
        let state = SequencerGiving::new(PartBounds::default(), clock.now());
        Some(BrokerGiving { clock, embedded: embedded.clone(), state })
    }
}

impl BrokerGiving {
    /// The next chunk of the round; None at its end. Publishers wait while it is collected, in
    /// bounded time, and not while it is written. A chunk has about
    /// [`crate::limits::HANDOVER_CHUNK_BYTES_MAX`], and at most one message more.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let part = {
            let guard = self.embedded.lock();
            self.state.next(&guard.state, self.clock.now())?
        };
        Some(record::to_bytes(&part))
    }

    /// All chunks that are left. Later publications are in none of them.
    pub fn finish(self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let parts = {
            let guard = self.embedded.lock();
            self.state.finish(&guard.state, self.clock.now())
        };
        parts.into_iter().map(|part: BrokerPart| record::to_bytes(&part))
    }
}
