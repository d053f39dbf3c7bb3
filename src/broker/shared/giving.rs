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
        redis::{LocalGiving, Process},
    },
    clock::Clock,
    record,
};

/// A process's broker as it is handed over: dropping it ends that, and nothing of it is left.
///
/// A thread takes chunks in rounds: the first one brings all that the broker knows, and each
/// further one what has changed since. Once nobody publishes any more, the rest follows. With Redis
/// the chunks hold the process's own knowledge: channels and histories are in Redis.
#[derive(Debug)]
pub struct BrokerGiving {
    clock: Clock,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Embedded(Arc<Embedded>, SequencerGiving),
    Redis(Arc<Process>, LocalGiving),
}

impl Shared {
    /// Begins to hand the state of the broker over. None: it is the caller's own.
    #[must_use]
    pub fn give(&self) -> Option<BrokerGiving> {
        let clock = self.health.clock;
        let source = match &self.mode {
            Mode::Embedded(embedded) => {
                let giving = SequencerGiving::new(PartBounds::default(), clock.now());
                Source::Embedded(embedded.clone(), giving)
            }
            Mode::Redis(process) => Source::Redis(process.clone(), process.give()),
            Mode::HandedIn(_) => return None,
        };
        Some(BrokerGiving { clock, source })
    }
}

impl BrokerGiving {
    /// The next chunk of the round; None at its end. Publishers wait while it is collected, in
    /// bounded time, and not while it is written. A chunk has about
    /// [`crate::limits::HANDOVER_CHUNK_BYTES_MAX`], and at most one message more.
    pub fn next_chunk(&mut self) -> Option<Vec<u8>> {
        let part = match &mut self.source {
            Source::Embedded(embedded, giving) => {
                giving.next(&embedded.lock().state, self.clock.now())
            }
            Source::Redis(process, giving) => process.next_part(giving),
        };
        Some(record::to_bytes(&part?))
    }

    /// All chunks that are left. Later publications are in none of them.
    pub fn finish(self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let parts = match self.source {
            Source::Embedded(embedded, giving) => {
                giving.finish(&embedded.lock().state, self.clock.now())
            }
            Source::Redis(process, giving) => process.last_parts(giving),
        };
        parts.into_iter().map(|part: BrokerPart| record::to_bytes(&part))
    }
}
