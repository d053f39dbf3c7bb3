//! Where two histories share an epoch, a position does not tell which of them it is of: the epoch
//! is ended in Redis, and the channel begins anew for everybody.

use tokio::time::timeout;

use super::{
    Delivery,
    repair::{Before, Hole},
};
use crate::{
    broker::{
        Missed,
        redis::{
            net::connection::ConnectionError,
            protocol::replies::{Ended, StreamPosition},
        },
    },
    channel::ChannelName,
    limits::REPAIR_DEADLINE,
    position::Position,
    telemetry::seldom,
};

impl Delivery {
    /// Ends an epoch that stands for two histories. All processes get to the new one that way,
    /// whichever comes first. `sure`: an acknowledged message of it is lost here; then plain
    /// clients are told, too.
    pub(super) async fn diverged(
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
