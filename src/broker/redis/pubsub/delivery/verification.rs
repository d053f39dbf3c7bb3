//! A message that does not simply follow is accepted only as far as Redis' own position agrees.
//!
//! Anyone with the right to publish can claim any offset, epoch and nonce for a message. A message
//! that claims to be far ahead would hide all that come after it; one that claims another history
//! would end the present one. So Redis is asked first: a message that it does not know costs no
//! client anything.

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::Delivery;
use crate::{
    broker::{
        Missed,
        history::Continuity,
        redis::{
            commands::call_error::CallError,
            net::connection::ConnectionError,
            protocol::replies::{Ended, StreamPosition},
            recovery::{
                memory::Span,
                sequence::{Arrival, Lag, SequenceTracker, Stamp},
            },
        },
    },
    channel::ChannelName,
    limits::{REDIS_RECONNECT_DELAY, REPAIR_DEADLINE},
    position::Position,
    telemetry::seldom,
};

/// The verdict on a message, as far as Redis agrees.
pub(super) struct Judged {
    pub(super) arrival: Arrival,
    /// The nonce of the newest message before it, if one is known.
    pub(super) newest: Option<u64>,
    /// Something that was acknowledged before its epoch began has surely not been here.
    pub(super) sure: bool,
}

/// The treatment of a message that does not simply follow.
enum Verified {
    /// Redis knows of it, as far as can be determined. `lacks`: see [`Judged::sure`].
    InRedis { lacks: bool },
    /// Redis does not have it, or it has been here: this shard is where Redis is.
    Settled,
}

impl Delivery {
    /// Something was acknowledged and is lost, and does not belong to the present history.
    pub(super) fn unnamed(&self, channel: &ChannelName, name: &str) {
        let last = self.with_tracker(name, |tracker| tracker.last().map(|(last, _)| last.clone()));
        if let Some(Some(Position { epoch, offset })) = last {
            let (from, to) = (offset + 1, Some(offset));
            let missed = Missed { epoch: Some(epoch), from, to, sure: true };
            self.gap(channel, missed);
        }
    }

    /// Whether something surely was acknowledged that has not been here, before Redis came to
    /// `epoch`: as Redis remembers, which ended some, or the other shards.
    pub(crate) fn lacks(
        &self,
        channel: &ChannelName,
        name: &str,
        epoch: &Arc<str>,
        ended: &[Vec<Ended>],
    ) -> bool {
        let memory = self.memory();
        let heard = memory.ends(channel, epoch);
        let was_here = |Ended { position, nonce }: &Ended| {
            memory.nonce_at(channel, &position.epoch, position.offset) == Some(*nonce)
        };
        let lacks = |tracker: &mut SequenceTracker| {
            // Late messages of an epoch that is over, received by others here, show in none of its
            // ends.
            tracker.lacks(ended, was_here) || tracker.lacks(&heard, |_| true)
        };
        self.with_tracker(name, lacks) == Some(true)
    }

    /// Judges a message, and asks Redis about one that does not simply follow; None: there is
    /// nothing more to do about it.
    pub(super) async fn judge_message(
        &self,
        channel: &ChannelName,
        name: &str,
        stamp: &Stamp<'_>,
    ) -> Result<Option<Judged>, ConnectionError> {
        let known = |offset| self.memory().nonce_at(channel, stamp.epoch, offset);
        let judge = || {
            self.with_tracker(name, |tracker| {
                (tracker.judge(stamp, self.now(), known), tracker.last().map(|(_, nonce)| nonce))
            })
        };
        let (mut judged, mut sure) = (judge(), false);
        while let Some((arrival, newest)) = judged {
            let follows = match arrival {
                Arrival::Next => true,
                // Another shard may have found out that the history is over, and all have
                // forgotten it: then nothing here tells whether it is the message that was here.
                Arrival::Duplicate => !self.memory().has_forgotten(channel),
                _ => false,
            };
            if follows && newest.is_some() {
                return Ok(Some(Judged { arrival, newest, sure }));
            }
            match self.verify(channel, name, stamp, arrival).await? {
                Verified::Settled => return Ok(None),
                Verified::InRedis { lacks } => sure = lacks,
            }
            // The channel's position may have become known while Redis was asked.
            let before = std::mem::replace(&mut judged, judge());
            if judged == before {
                return Ok(Some(Judged { arrival, newest, sure }));
            }
        }
        Ok(None)
    }

    /// Asks Redis about a message that does not simply follow.
    async fn verify(
        &self,
        channel: &ChannelName,
        name: &str,
        stamp: &Stamp<'_>,
        arrival: Arrival,
    ) -> Result<Verified, ConnectionError> {
        let Some(stream_position) = self.ask(channel, name).await? else {
            return Ok(Verified::InRedis { lacks: false });
        };
        let held = &stream_position.position;
        let is_same = *held.epoch == *stamp.epoch;
        match arrival {
            Arrival::Late { .. } if is_same && held.offset >= stamp.offset => {
                self.catch_up(channel, name, stream_position, self.now()).await?;
                return Ok(Verified::Settled);
            }
            Arrival::Duplicate if !is_same => {
                self.catch_up(channel, name, stream_position, self.now()).await?;
                return Ok(Verified::Settled);
            }
            Arrival::Late { .. } => return Ok(Verified::InRedis { lacks: false }),
            Arrival::Diverged if self.is_where_redis_is(name, &stream_position) => {}
            Arrival::Diverged if !is_same => return Ok(Verified::InRedis { lacks: false }),
            _ if is_same && self.is_in_redis(channel, stamp, &stream_position).await => {
                let is_new_epoch = matches!(arrival, Arrival::NewEpoch | Arrival::FirstEpoch);
                let lacks =
                    is_new_epoch && self.lacks(channel, name, &held.epoch, &stream_position.ended);
                return Ok(Verified::InRedis { lacks });
            }
            _ => {}
        }
        self.health().foreign.add(1);
        let Stamp { epoch, offset, .. } = *stamp;
        let redis = held.to_string();
        seldom!(
            warn,
            "a message that Redis does not know of",
            %channel,
            epoch,
            offset,
            redis
        );
        self.catch_up(channel, name, stream_position, self.now()).await?;
        Ok(Verified::Settled)
    }

    /// Redis' position; None if it does not tell, and the arriving messages are all there is to go
    /// by.
    async fn ask(
        &self,
        channel: &ChannelName,
        name: &str,
    ) -> Result<Option<StreamPosition>, ConnectionError> {
        let asking = async {
            loop {
                self.recoverer.router.opened(channel).await;
                match self.recoverer.stream_position(channel).await {
                    Ok(stream_position) => return Ok(stream_position),
                    Err(CallError::Refused(error)) => return Err(error),
                    Err(_) => sleep(REDIS_RECONNECT_DELAY).await,
                }
            }
        };
        match timeout(REPAIR_DEADLINE, asking).await {
            Ok(Ok(stream_position)) => Ok(Some(stream_position)),
            Ok(Err(error)) => {
                seldom!(
                    warn,
                    "Redis refuses to tell a position",
                    %channel,
                    error = error.details()
                );
                Ok(None)
            }
            // Nothing is known that the next connection could be compared with: it would be lost.
            Err(_) if self.with_tracker(name, |tracker| !tracker.has_begun()) == Some(true) => {
                Ok(None)
            }
            Err(_) => Err(ConnectionError::Unanswered),
        }
    }

    /// Whether Redis has exactly the messages that are here.
    fn is_where_redis_is(&self, name: &str, stream_position: &StreamPosition) -> bool {
        let StreamPosition { position, nonce, .. } = stream_position;
        self.with_tracker(name, |tracker| tracker.compare(position, *nonce)) == Some(Lag::None)
    }

    /// Whether the message that Redis has in its place, in the epoch that Redis is in, is this one;
    /// or nothing tells.
    async fn is_in_redis(
        &self,
        channel: &ChannelName,
        stamp: &Stamp<'_>,
        stream_position: &StreamPosition,
    ) -> bool {
        let StreamPosition { position, nonce, .. } = stream_position;
        if position.offset <= stamp.offset {
            return position.offset == stamp.offset && *nonce == stamp.nonce;
        }
        let span = Span { epoch: &position.epoch, after: stamp.offset - 1, to: position.offset };
        if self.cover(channel, span).await == Continuity::Diverged {
            return true;
        }
        let known = self.memory().nonce_at(channel, &position.epoch, stamp.offset);
        known.is_none_or(|known| known == stamp.nonce)
    }
}
