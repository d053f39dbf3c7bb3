//! Messages that arrive at a subscriber, by their topics; and refusals.

use bytes::Bytes;

use super::Subscriber;
use crate::{
    broker::{
        Missed,
        redis::{
            net::connection::ConnectionError,
            protocol::refusal,
            pubsub::{command::Command, topic::Topic},
        },
        refusals::Subject,
    },
    channel::ChannelName,
};

impl Subscriber {
    /// The effect of an answer on readiness, and on callers that don't get what they wanted.
    pub(super) fn judge(&self, command: &Command, refusal: Option<&str>, is_news: bool) {
        let Command::Subscribe(name) = command else { return };
        let (refusals, now) = (&self.router.health.refusals, self.router.clock.now());
        let Some(error) = refusal else {
            let is_it = |channel: &_| self.router.settings.names.channel(channel) == *name;
            return refusals.subscription_accepted(is_it, now);
        };
        let known = self.subscriptions.borrow_mut().get_mut(name).map(|known| known.topic.clone());
        let Some(Topic::Channel(channel)) = known else { return };
        // Else it is the command that is refused, whatever the channel.
        let is_default = channel == ChannelName::default_channel();
        let is_channels = error.starts_with("NOPERM") && error.contains(" channel") && !is_default;
        let subject = Subject::Subscription(Some(channel.clone()).filter(|_| is_channels));
        refusals.refused(subject, refusal::reason(error), &error, (now, now));
        if is_news {
            // Its missed messages are unknown.
            self.delivery.sink.gap(&channel, Missed { epoch: None, from: 1, to: None, sure: true });
        }
    }

    pub(super) async fn message(&self, name: &[u8], payload: Bytes) -> Result<(), ConnectionError> {
        let Ok(name) = std::str::from_utf8(name) else { return Ok(()) };
        let topic = self.subscriptions.borrow_mut().get_mut(name).map(|known| known.topic.clone());
        match topic {
            Some(Topic::Channel(channel)) => {
                self.arrived(channel, name, &payload).await?;
            }
            Some(Topic::Raw) => {
                if let Some(bridge) = &self.bridge {
                    bridge.raw(payload).await;
                }
            }
            Some(Topic::Marks) => {
                if let Some(bridge) = &self.bridge {
                    bridge.mark(&payload).await;
                }
            }
            Some(Topic::Heartbeat) => self.router.connectivity.heartbeat_returned(&payload),
            Some(Topic::Announcements) => self.announced(&payload).await,
            // Unsubscribed meanwhile.
            None => {}
        }
        Ok(())
    }

    /// Whether raw messages and the lease's marks arrive.
    pub(in crate::broker::redis::pubsub) fn hears_raw(&self) -> bool {
        let subscriptions = self.subscriptions.borrow();
        let is_heard = |name: &str| subscriptions.confirmed_by(name).is_some();
        let raw = self.router.settings.raw_channel.as_deref();
        // While another process is with the clients, it bridges.
        !self.held.borrow().is_closed()
            && raw.is_some_and(is_heard)
            && self.bridge.as_ref().is_some_and(|it| is_heard(it.marks()))
    }
}
