//! The broker's state on its way to another process, while this one still publishes.
//!
//! Bytes come out, for a transport to write; what they are is known to `record` alone.

use std::{sync::Arc, time::Duration};

use super::{Mode, Shared};
use crate::{
    broker::{
        embedded::{Embedded, SequencerGiving},
        history::PartBounds,
        record::BrokerPart,
        redis::{HaltedProcess, NotLevel, Process, RedisGiving},
    },
    clock::Clock,
    record,
};

/// A process's broker as it is handed over: dropping it ends that, and nothing of it is left.
///
/// A thread takes chunks in rounds: the first one brings all that the broker knows, and each
/// further one what has changed since. Once nobody publishes any more, the rest follows. With Redis
/// the chunks hold the process's own knowledge, for channels and histories are in Redis; and by
/// [`BrokerGiving::next_channels`] the new process learns the channels to be subscribed to.
#[derive(Debug)]
pub struct BrokerGiving {
    clock: Clock,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Embedded(Arc<Embedded>, SequencerGiving),
    Redis(Arc<Process>, RedisGiving),
}

/// A broker that delivers nothing from Redis as long as this is kept; nothing is lost by it.
#[derive(Debug)]
pub struct HaltedBroker {
    /// Kept, and dropped.
    _process: Option<HaltedProcess>,
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

    /// The next chunk of a round of channels: the first round names all that have clients, and each
    /// further one those that have some since. None at the round's end. Without Redis there is
    /// none.
    ///
    /// The last round is to begin when no client can come to a channel any more, and to be with the
    /// new process, which has subscribed by then, before [`BrokerGiving::level`].
    ///
    /// # Cancel safety
    /// May be dropped: the hand-over cannot go on then.
    pub async fn next_channels(&mut self) -> Option<Vec<u8>> {
        match &mut self.source {
            Source::Embedded(..) => None,
            Source::Redis(process, giving) => {
                let part = process.next_channels(giving).await?;
                Some(record::to_bytes(&part))
            }
        }
    }

    /// Waits until all that was published by now is in the mailboxes, and that of all shards alike;
    /// from then on nothing more gets there. It takes at most twice `within`, mostly a round trip
    /// to Redis: what has not arrived by then is the new process' to look for. The shards must take
    /// from their mailboxes meanwhile, and once more after it, before clients are recorded; the
    /// chunks of [`BrokerGiving::finish`] hold the channels' places.
    ///
    /// # Errors
    /// When a shard does not answer. The broker delivers again then.
    ///
    /// # Cancel safety
    /// May be dropped: the broker delivers again then.
    pub async fn level(&mut self, within: Duration) -> Result<HaltedBroker, NotLevel> {
        let _process = match &mut self.source {
            Source::Embedded(..) => None,
            Source::Redis(process, giving) => Some(process.level(giving, within).await?),
        };
        Ok(HaltedBroker { _process })
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
