//! The work of a subscriber for all shards of the process, where it subscribes for them: it wants
//! the channels they want, and reports to them.

use super::Subscriber;
use crate::broker::redis::pubsub::command::Command;

impl Subscriber {
    /// Waits until some shard asks for something; forever where each has its own subscriber.
    ///
    /// # Cancel safety
    /// May be dropped: a request that came is found by the next call.
    pub(super) async fn asked(&self) {
        match &self.shared {
            Some(shared_subscriber) => shared_subscriber.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Does what the shards have asked for.
    pub(super) fn take_requests(&self) {
        let Some(shared_subscriber) = &self.shared else { return };
        for (channel, change, is_wanted) in shared_subscriber.take_changed() {
            if !is_wanted {
                self.unwant(&channel);
                continue;
            }
            // Otherwise the answer of Redis settles it.
            if self.want(channel.clone()).is_none() {
                shared_subscriber.settled(&channel, self.confirmed_on(&channel));
            }
            for (stream_position, before, waiter) in change.baselines {
                let is_certain = self.set_baseline(&channel, &stream_position, before);
                if is_certain {
                    shared_subscriber.baseline_is_set(channel.clone());
                }
                // An error means that the shard no longer waits.
                let _ = waiter.send(is_certain);
            }
        }
    }

    /// Redis has carried out `command`, or refused it.
    pub(super) fn tell_hearers(&self, command: &Command, is_refused: bool) {
        let Some(shared_subscriber) = &self.shared else { return };
        let Command::Subscribe(name) = command else { return };
        let known = self.subscriptions.borrow_mut().get_mut(name).map(|known| known.topic.clone());
        let Some(channel) = known.as_ref().and_then(|topic| topic.channel()) else { return };
        let confirmed = self.confirmed_on(channel);
        if confirmed.is_some() || is_refused {
            shared_subscriber.settled(channel, confirmed);
        }
    }
}
