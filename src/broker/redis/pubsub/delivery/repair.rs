//! Messages that a shard missed are fetched and put in their place, before anything newer.
//!
//! Holes show in the messages that arrive, and after every subscription in a comparison with Redis'
//! position. The subscriber waits for the repair: messages that come meanwhile wait in the
//! connection, so no order is lost. A reading is bounded in time; messages that cannot be had are
//! reported as a gap. Where two histories share an epoch, the epoch is ended.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::{Delivery, verification::Judged};
use crate::{
    broker::{
        Missed, Publication,
        history::{Continuity, HistoryMessage, StreamEntry},
        redis::{
            commands::call_error::CallError,
            net::connection::ConnectionError,
            protocol::{
                envelope,
                replies::{Ended, StreamPosition},
            },
            recovery::{
                memory::Span,
                sequence::{Arrival, Lag, Stamp},
            },
        },
    },
    channel::ChannelName,
    clock::Millis,
    limits::{POSITIONS_IN_FLIGHT_MAX, REDIS_RECONNECT_DELAY, REPAIR_DEADLINE, REPLAY_PIECE_BYTES},
    position::Position,
    telemetry::seldom,
};

/// Two histories share an epoch.
struct Diverged;

/// Offsets of `epoch` that a shard lacks.
struct Hole {
    epoch: Arc<str>,
    from: u64,
    to: u64,
    before: Before,
    /// The nonce of the last one in it.
    last: u64,
    /// The nonce of the one after it, which has arrived.
    next: Option<u64>,
    /// Something of an earlier history was acknowledged and surely has not been here.
    sure: bool,
}

/// The position before a hole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
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
    fn message(nonce: Option<u64>) -> Self {
        nonce.map_or(Self::Epoch, Self::Message)
    }
}

impl Delivery {
    /// A message arrived on one of our channels.
    pub(crate) async fn publication(
        &self,
        channel: ChannelName,
        name: &str,
        payload: &Bytes,
    ) -> Result<(), ConnectionError> {
        let health = self.health();
        let Some(message) = envelope::decode(payload) else {
            health.foreign.add(1);
            tracing::debug!(%channel, "dropped what is no publication of ours");
            return Ok(());
        };
        let envelope::Envelope { kind, epoch, offset, nonce, previous, data } = message;
        self.make_room(data.len()).await;
        let stamp = Stamp { epoch, offset, nonce, previous };
        let Some(Judged { arrival, newest, sure }) =
            self.judge_message(&channel, name, &stamp).await?
        else {
            return Ok(());
        };
        let hole = |from, before| Hole {
            epoch: epoch.into(),
            from,
            to: offset - 1,
            before,
            last: previous,
            next: Some(nonce),
            sure,
        };
        let repaired = match arrival {
            Arrival::Next => Ok(()),
            Arrival::Duplicate => {
                health.duplicates.add(1);
                return Ok(());
            }
            Arrival::Jump(from) => {
                self.repair(&channel, name, hole(from, Before::message(newest))).await
            }
            Arrival::FirstEpoch => {
                let before = self.before_first(name, self.now()).await;
                self.repair(&channel, name, hole(1, before)).await
            }
            Arrival::NewEpoch => self.repair(&channel, name, hole(1, Before::Epoch)).await,
            Arrival::Late { .. } | Arrival::Diverged => Err(Diverged),
        };
        let position = Position { epoch: epoch.into(), offset };
        let kept = HistoryMessage { kind, data: data.clone(), nonce };
        let is_one_history = repaired.is_ok()
            && self.memory().add_live(&channel, StreamEntry { position, previous, kept })
                == Continuity::Known;
        if !is_one_history {
            // It is not delivered: unless it was here, it is lost.
            let sure = !matches!(arrival, Arrival::Late { is_new: false });
            return self.diverged(&channel, name, epoch, sure).await;
        }
        let position =
            self.with_tracker(name, |tracker| tracker.advance(epoch, offset, nonce, self.now()));
        if position.is_some() {
            self.sink.deliver(Publication { channel, kind, data, position });
        }
        Ok(())
    }

    /// Compares the received messages with Redis' position, for every channel subscribed anew.
    pub(crate) async fn check(&self) -> Result<(), ConnectionError> {
        loop {
            let batch = self.subscriptions.borrow_mut().take_unchecked(POSITIONS_IN_FLIGHT_MAX);
            let Some((_, first)) = batch.first() else { return Ok(()) };
            let asking = async {
                // A subscriber's channels are all on one server.
                self.recoverer.router.opened(first).await;
                let ask = |(_, channel)| self.recoverer.stream_position(channel);
                join_all(batch.iter().map(|(name, channel)| ask((name, channel)))).await
            };
            let answers = timeout(REPAIR_DEADLINE, asking).await;
            let answers = answers.map_err(|_| ConnectionError::Unanswered)?;
            let at = self.now();
            for ((name, channel), answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(stream_position) => {
                        self.catch_up(channel, name, stream_position, at).await?
                    }
                    // The next message tells.
                    Err(CallError::Refused(error)) => {
                        seldom!(
                            warn,
                            "Redis refuses to tell a position",
                            %channel,
                            error = error.details()
                        );
                    }
                    Err(_) => return Err(ConnectionError::Unanswered),
                }
            }
        }
    }

    /// Catches up with the position that Redis had `at` some moment.
    pub(super) async fn catch_up(
        &self,
        channel: &ChannelName,
        name: &str,
        stream_position: StreamPosition,
        at: Millis,
    ) -> Result<(), ConnectionError> {
        let StreamPosition { mut position, nonce, ended } = stream_position;
        let memory = self.memory();
        let compared = self.with_tracker(name, |tracker| {
            (tracker.compare(&position, nonce), tracker.last().map(|(_, nonce)| nonce))
        });
        let Some((lag, Some(newest))) = compared else { return Ok(()) };
        let (from, before) = match lag {
            // A history that others here have received since, and that is over in Redis, has not
            // come this way.
            Lag::None if memory.has_replaced(channel, &position.epoch) => {
                return self.diverged(channel, name, &position.epoch, true).await;
            }
            Lag::None => return Ok(()),
            Lag::Behind(from) => (from, Before::Message(newest)),
            Lag::FirstEpoch => (1, self.before_first(name, at).await),
            Lag::NewEpoch => (1, Before::Epoch),
            // Others here have received another history meanwhile, which shards that stayed must
            // not miss.
            Lag::Returned { .. } if memory.has_left(channel, &position.epoch) => {
                return self.diverged(channel, name, &position.epoch, true).await;
            }
            Lag::Returned { from, after } => (from, Before::Returned(after)),
            Lag::Diverged { is_new } => {
                return self.diverged(channel, name, &position.epoch, is_new).await;
            }
        };
        if position.is_empty() && before == Before::Epoch {
            // The epoch of empty channels may have changed since.
            position = self.recoverer.empty().await.position;
        }
        let Position { epoch, offset } = position;
        // In one history nothing else counts.
        let is_other = matches!(before, Before::Nothing | Before::Epoch);
        let sure = is_other && self.lacks(channel, name, &epoch, &ended);
        let (to, last, next) = (offset, nonce, None);
        let hole = Hole { epoch: epoch.clone(), from, to, before, last, next, sure };
        match self.repair(channel, name, hole).await {
            Ok(()) => Ok(()),
            Err(Diverged) => self.diverged(channel, name, &epoch, true).await,
        }
    }

    /// Delivers the missing messages, and reports those that cannot be had. Where two histories
    /// meet, it does neither.
    async fn repair(&self, channel: &ChannelName, name: &str, hole: Hole) -> Result<(), Diverged> {
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
    async fn before_first(&self, name: &str, at: Millis) -> Before {
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

    /// Ends an epoch that stands for two histories. All processes get to the new one that way,
    /// whichever comes first. `sure`: an acknowledged message of it is lost here; then plain
    /// clients are told, too.
    async fn diverged(
        &self,
        channel: &ChannelName,
        name: &str,
        epoch: &str,
        sure: bool,
    ) -> Result<(), ConnectionError> {
        let memory = self.memory();
        let heard = self.with_tracker(name, |tracker| {
            tracker.last().map(|(last, nonce)| Ended { position: last.clone(), nonce })
        });
        let asking = async {
            self.recoverer.router.opened(channel).await;
            self.recoverer.rotate(channel, epoch, heard.flatten()).await
        };
        // Tried again on the next connection, by the comparison that follows.
        let answer = timeout(REPAIR_DEADLINE, asking).await;
        let Ok(Ok(StreamPosition { position, nonce, ended })) = answer else {
            return Err(ConnectionError::Unanswered);
        };
        let is_here = self.with_tracker(name, |tracker| {
            tracker.last().is_some_and(|(last, _)| last.is_comparable(&position))
        });
        let lacks = self.lacks(channel, name, &position.epoch, &ended);
        memory.forget(channel, epoch);
        if is_here == Some(true) {
            // A late message of an epoch that is over in Redis too.
            self.health().duplicates.add(1);
            if sure {
                self.unnamed(channel, name);
            }
            return Ok(());
        }
        seldom!(warn, "Redis was rolled back: the channel begins anew", %channel, epoch);
        let Position { epoch, offset } = position;
        let (before, next) = (Before::Epoch, None);
        let (from, to, last, sure) = (1, offset, nonce, sure || lacks);
        let hole = Hole { epoch: epoch.clone(), from, to, before, last, next, sure };
        if self.repair(channel, name, hole).await.is_err() {
            let missed = Missed { epoch: Some(epoch.clone()), from: 1, to: Some(offset), sure };
            self.gap(channel, missed);
            self.with_tracker(name, |tracker| tracker.advance(&epoch, offset, nonce, self.now()));
        }
        Ok(())
    }
}
