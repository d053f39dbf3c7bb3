//! The work of a subscriber for all shards of the process, where it subscribes for them: it wants
//! the channels they want, and reports to them.

use super::Subscriber;
use crate::{
    broker::redis::pubsub::{command::Command, shared::SharedSubscriber},
    channel::ChannelName,
};

impl Subscriber {
    /// Waits until some shard asks for something; forever where each has its own subscriber.
    ///
    /// # Cancel safety
    /// May be dropped: a request that came is found by the next call.
    pub(super) async fn asked(&self) {
        match &self.delivery.shared {
            Some(shared_subscriber) => shared_subscriber.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Does what the shards have asked for.
    pub(crate) fn take_requests(&self) {
        let Some(shared_subscriber) = &self.delivery.shared else { return };
        for (channel, change, is_wanted) in shared_subscriber.take_changed() {
            if !is_wanted {
                self.unwant(&channel);
                continue;
            }
            match self.want(channel.clone()) {
                // The answer of Redis settles it.
                Some(confirmed) => shared_subscriber.waits(&channel, confirmed),
                None => shared_subscriber.settled(&channel, self.confirmed_on(&channel)),
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

    /// Redis has answered `command`, which is to be taken note of now.
    pub(crate) fn look_at_hearers(&self, command: &Command) {
        if let Some((shared_subscriber, channel)) = self.hearers(command) {
            shared_subscriber.wait_no_longer_than_others(&channel);
        }
    }

    /// Redis has carried out `command`, or refused it.
    pub(crate) fn tell_hearers(&self, command: &Command, is_refused: bool) {
        let Some((shared_subscriber, channel)) = self.hearers(command) else { return };
        let confirmed = self.confirmed_on(&channel);
        if confirmed.is_some() || is_refused {
            shared_subscriber.settled(&channel, confirmed);
        }
    }

    /// The shards that want the channel of a subscription, and that channel.
    fn hearers(&self, command: &Command) -> Option<(&SharedSubscriber, ChannelName)> {
        let shared_subscriber = self.delivery.shared.as_deref()?;
        let Command::Subscribe(name) = command else { return None };
        let mut subscriptions = self.subscriptions.borrow_mut();
        let channel = subscriptions.get_mut(name)?.topic.channel()?.clone();
        Some((shared_subscriber, channel))
    }
}
