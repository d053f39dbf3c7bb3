//! After every subscription the received messages are compared with Redis' position: a message that
//! was missed before, and that no other follows, shows in nothing else. A channel whose position is
//! unknown, since nobody could be told it when it was wanted, gets one: what is lost with the next
//! connection shows by it.

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Delivery,
    repair::{Before, Diverged, Hole},
};
use crate::{
    broker::redis::{
        commands::call_error::CallError, net::connection::ConnectionError,
        protocol::replies::StreamPosition, recovery::sequence::Lag,
    },
    channel::ChannelName,
    clock::Millis,
    limits::{POSITIONS_IN_FLIGHT_MAX, REPAIR_DEADLINE},
    position::Position,
    telemetry::seldom,
};

impl Delivery {
    /// Compares the received messages with Redis' position, for every channel subscribed anew. One
    /// of which nothing is known begins there.
    pub(crate) async fn check(&self) -> Result<(), ConnectionError> {
        loop {
            let batch = self.subscriptions.borrow_mut().take_unchecked(POSITIONS_IN_FLIGHT_MAX);
            let Some((_, first)) = batch.first() else { return Ok(()) };
            let is_placed =
                |name: &str| self.with_tracker(name, |it| it.has_begun()) != Some(false);
            let ask = async |(name, channel): &(String, ChannelName)| match is_placed(name) {
                true => self.recoverer.stream_position(channel).await,
                false => self.recoverer.ask_stream_position(channel, None).await,
            };
            let asking = async {
                // A subscriber's channels are all on one server.
                self.recoverer.router.opened(first).await;
                join_all(batch.iter().map(ask)).await
            };
            let answers = match timeout(REPAIR_DEADLINE, asking).await {
                Ok(answers) => answers,
                Err(_) if batch.iter().any(|(name, _)| is_placed(name)) => {
                    return Err(ConnectionError::Unanswered);
                }
                // They are asked about again.
                Err(_) => return Ok(()),
            };
            let at = self.now();
            for ((name, channel), answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(StreamPosition { position, nonce, .. }) if !is_placed(name) => {
                        self.begin(channel, name, &position, nonce, at);
                    }
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
                    // Another connection would not know more of it.
                    Err(_) if !is_placed(name) => {}
                    Err(_) => return Err(ConnectionError::Unanswered),
                }
            }
        }
    }

    /// A channel whose position was unknown begins there, for all shards that hear it this way.
    fn begin(
        &self,
        channel: &ChannelName,
        name: &str,
        position: &Position,
        nonce: u64,
        at: Millis,
    ) {
        self.subscriptions.borrow_mut().begin(name, position, nonce, at);
        let begun_at = self.with_tracker(name, |tracker| tracker.begun_at()).flatten();
        if let (Some(shared_subscriber), Some(begun_at)) = (&self.shared, begun_at) {
            shared_subscriber.begin(channel, begun_at);
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
}
