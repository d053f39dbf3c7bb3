//! Messages that a shard missed are fetched and put in their place, before anything newer.
//!
//! Holes show in the messages that arrive (`arrival`), and after every subscription in a comparison
//! with Redis' position (`catch_up`). The subscriber waits for the repair: messages that come
//! meanwhile wait in the connection, so no order is lost. A reading is bounded in time; messages
//! that cannot be had are reported as a gap.

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::Delivery;
use crate::{
    broker::{Missed, history::Continuity, redis::recovery::memory::Span},
    channel::ChannelName,
    clock::Millis,
    limits::{REDIS_RECONNECT_DELAY, REPAIR_DEADLINE, REPLAY_PIECE_BYTES},
    position::Position,
    telemetry::seldom,
};

/// Two histories share an epoch.
pub(super) struct Diverged;

/// Offsets of `epoch` that a shard lacks.
pub(super) struct Hole {
    pub(super) epoch: Arc<str>,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) before: Before,
    /// The nonce of the last one in it.
    pub(super) last: u64,
    /// The nonce of the one after it, which has arrived.
    pub(super) next: Option<u64>,
    /// Something of an earlier history was acknowledged and surely has not been here.
    pub(super) sure: bool,
}

/// The position before a hole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The message with this nonce.
    Message(u64),
    /// The message with this nonce, and what came since, of other epochs, whose end is missing.
    Returned(u64),
    /// Nothing, if this is the channel's first history.
    Nothing,
    /// Another epoch, whose end is missing too.
    Epoch,
}

impl Before {
    pub(super) fn message(nonce: Option<u64>) -> Self {
        nonce.map_or(Self::Epoch, Self::Message)
    }
}

impl Delivery {
    /// Delivers the missing messages, and reports those that cannot be had. Where two histories
    /// meet, it does neither.
    pub(super) async fn repair(
        &self,
        channel: &ChannelName,
        name: &str,
        hole: Hole,
    ) -> Result<(), Diverged> {
        let memory = self.memory();
        let Hole { epoch, from, to, before, last, next, sure } = hole;
        if self.cover(channel, Span { epoch: &epoch, after: from - 1, to }).await
            == Continuity::Diverged
        {
            return Err(Diverged);
        }
        let is_other = |offset, nonce| {
            memory.nonce_at(channel, &epoch, offset).is_some_and(|known| known != nonce)
        };
        let is_other_before = match before {
            Before::Message(nonce) | Before::Returned(nonce) => is_other(from - 1, nonce),
            Before::Nothing | Before::Epoch => false,
        };
        let is_other_next = next.is_some_and(|nonce| is_other(to + 1, nonce));
        if is_other_before || is_other(to, last) || is_other_next {
            return Err(Diverged);
        }
        let (floor, end) = memory.kept(channel, &epoch).unwrap_or((to, to));
        let mut reached = floor.clamp(from - 1, to);
        let root = if to == 0 { Some(last) } else { memory.nonce_at(channel, &epoch, 0) };
        let follows = match before {
            Before::Message(_) => true,
            Before::Nothing => root == Some(0),
            Before::Returned(_) | Before::Epoch => false,
        };
        let mut is_whole = to >= from;
        if reached >= from || !follows || sure {
            let missed = Missed { epoch: Some(epoch.clone()), from, to: Some(reached), sure };
            self.gap(channel, missed);
            is_whole = false;
        }
        while reached < end.min(to) {
            let place = Position { epoch: epoch.clone(), offset: reached };
            let piece = memory.piece(channel, &place, to, REPLAY_PIECE_BYTES).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            reached += piece.len() as u64;
            for publication in piece {
                self.make_room(publication.data.len()).await;
                if self.with_tracker(name, |_| ()).is_none() {
                    return Ok(());
                }
                self.sink.deliver(publication);
            }
        }
        if reached < to {
            let missed =
                Missed { epoch: Some(epoch.clone()), from: reached + 1, to: Some(to), sure: false };
            self.gap(channel, missed);
            is_whole = false;
        }
        self.with_tracker(name, |tracker| tracker.advance(&epoch, to, last, self.now()));
        if is_whole {
            self.health().repaired.add(1);
            seldom!(info, "messages that did not arrive were fetched", %channel, from, to);
        }
        Ok(())
    }

    /// The position before the first known message of a channel that had no publications. `at`:
    /// when that was known.
    pub(super) async fn before_first(&self, name: &str, at: Millis) -> Before {
        let empty = self.with_tracker(name, |tracker| {
            tracker.last().map(|(position, _)| position.epoch.clone())
        });
        let Some(Some(epoch)) = empty else { return Before::Epoch };
        let asking = self.recoverer.still_counts(&epoch, at);
        match timeout(REPAIR_DEADLINE, asking).await {
            Ok(true) => Before::Nothing,
            Ok(false) | Err(_) => Before::Epoch,
        }
    }

    /// Gets `span` into memory if it can be had within [`REPAIR_DEADLINE`]. Returns whether it is
    /// of one history with the present content.
    pub(crate) async fn cover(&self, channel: &ChannelName, span: Span<'_>) -> Continuity {
        let mut reason = None;
        let covering = async {
            loop {
                match self.recoverer.reader.cover(channel, span, true).await {
                    Ok(continuity) => return continuity,
                    Err(error) => {
                        tracing::debug!(%channel, %error, "the history was not read");
                        reason = Some(error);
                    }
                }
                sleep(REDIS_RECONNECT_DELAY).await;
            }
        };
        if let Ok(continuity) = timeout(REPAIR_DEADLINE, covering).await {
            return continuity;
        }
        let reason =
            reason.map_or_else(|| "Redis did not answer".to_owned(), |error| error.to_string());
        seldom!(warn, "the history was not read in time", %channel, reason);
        Continuity::Known
    }
}
