//! What does not simply follow is believed only as far as Redis' own position agrees.
//!
//! Anyone who may publish can say that a message has whatever offset and epoch. One that claims to
//! be far ahead would hide all that comes after it.

use tokio::time::{sleep, timeout};

use super::{connection::ConnectionError, lane::CallError, subscriber::Subscriber, track::Stamp};
use crate::{
    broker::Missed,
    channel::ChannelName,
    clock,
    limits::{REDIS_RECONNECT_DELAY, REPAIR_DEADLINE},
    position::Position,
    telemetry::seldom,
};

impl Subscriber {
    /// Something was acknowledged and is lost, and is none of the present history's.
    pub(super) fn unnamed(&self, channel: &ChannelName, name: &str) {
        let last = self.with_track(name, |track| track.last().map(|(last, _)| last.clone()));
        if let Some(Some(Position { epoch, offset })) = last {
            let (from, to) = (offset + 1, Some(offset));
            let missed = Missed { epoch: Some(epoch), from, to, sure: true };
            self.gap(channel, missed);
        }
    }

    /// Whether Redis itself has got as far as a message that does not simply follow: anyone may
    /// publish on the channel, and a large offset would hide all that comes after it. Else this
    /// shard gets to where Redis is.
    pub(super) async fn is_believed(
        &self,
        channel: &ChannelName,
        name: &str,
        stamp: &Stamp<'_>,
    ) -> Result<bool, ConnectionError> {
        let asking = async {
            loop {
                self.link.opened(channel).await;
                match self.link.process().standing(&self.link, channel).await {
                    Ok(standing) => return Ok(standing),
                    Err(CallError::Refused(error)) => return Err(error),
                    Err(_) => sleep(REDIS_RECONNECT_DELAY).await,
                }
            }
        };
        let standing = match timeout(REPAIR_DEADLINE, asking).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => {
                seldom!(warn, "Redis refuses to tell a position", %channel, %error);
                return Ok(true);
            }
            // Nothing is known that the next connection could be compared with: it would be lost.
            Err(_) if self.with_track(name, |track| !track.has_begun()) == Some(true) => {
                return Ok(true);
            }
            Err(_) => return Err(ConnectionError::Unanswered),
        };
        let held = &standing.position;
        if *held.epoch == *stamp.epoch && held.offset >= stamp.offset {
            return Ok(true);
        }
        self.link.shared.health_ref().foreign.add(1);
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
        let is_jump = self
            .with_track(name, |track| track.last().is_none_or(|(last, _)| *last.epoch == *epoch));
        self.catch_up(channel, name, standing, clock::now()).await?;
        if is_jump == Some(false) {
            // It may be of a history that Redis has left again, and was acknowledged there.
            self.unnamed(channel, name);
        }
        Ok(false)
    }
}
