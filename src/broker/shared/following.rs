//! The broker of a process that another one has taken the place of, and that still has clients.

use super::{Mode, Shared};
use crate::broker::Publication;

impl Shared {
    /// Another process continues this one's state: what is still published here is refused. With
    /// Redis nothing changes: both may publish.
    pub fn retire(&self) {
        if let Mode::Embedded(embedded) = &self.mode {
            embedded.lock().state.is_over = true;
        }
    }

    /// The other process does not continue it after all.
    pub fn go_on(&self) {
        if let Mode::Embedded(embedded) = &self.mode {
            embedded.lock().state.is_over = false;
        }
    }

    /// The other process has published a message: the clients that are left here get it, too. All
    /// of them in their order.
    pub fn follow(&self, message: &Publication) {
        if let Mode::Embedded(embedded) = &self.mode {
            let mut guard = embedded.lock();
            guard.state.follow(message, self.health.clock.now());
            guard.deliver(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::{
            BrokerSettings, HandleOwner, HistorySettings, Message, OnLoss, Principal, PublishError,
            connect,
        },
        channel::ChannelName,
        clock::Clock,
        position::{Position, Since},
        ws::Kind,
    };

    /// A broker that another process continues refuses what is published to it, and knows what that
    /// one publishes.
    #[tokio::test(start_paused = true)]
    async fn a_retired_broker_follows_the_other_one() {
        let history = HistorySettings {
            messages_max: 10,
            bytes_max: 10_000,
            total_bytes_max: 100_000,
            ttl: Duration::from_secs(60),
        };
        let settings = BrokerSettings { redis: None, on_loss: OnLoss::Local, history };
        let shared = Shared::new(Clock::start(), settings, Vec::new()).unwrap();
        let broker = connect(Arc::clone(&shared), HandleOwner::Control).await;
        let channel = ChannelName::new("a").unwrap();
        let (kind, data) = (Kind::Text, Bytes::from_static(b"x"));
        let message = || Message {
            publisher: Principal::Api,
            channel: channel.clone(),
            kind,
            data: data.clone(),
            key: None,
        };
        broker.publish(message()).await.unwrap();
        let first = broker.position(channel.clone(), None).await.unwrap();
        shared.retire();
        assert_eq!(broker.publish(message()).await, Err(PublishError::Restarting));
        let second = Position { offset: 2, ..first.clone() };
        let position = Some(second.clone());
        let (channel_of, data_of) = (channel.clone(), data.clone());
        shared.follow(&Publication { channel: channel_of, kind, data: data_of, position });
        assert_eq!(broker.position(channel.clone(), None).await, Some(second.clone()));
        shared.go_on();
        broker.publish(message()).await.unwrap();
        let recovered = broker.recover(channel.clone(), Since::After(first), second).await;
        assert!(recovered.missed.is_none(), "{recovered:?}");
    }
}
