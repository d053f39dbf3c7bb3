//! The state of another process's broker, as this process takes it over before it publishes.

use std::{sync::Arc, time::Duration};

use super::{Mode, Shared};
use crate::{
    broker::{
        embedded::{Embedded, SequencerTaking},
        record::{BrokerPart, TakeError},
        redis::{NotSubscribed, Process, RedisTaking},
    },
    clock::Clock,
    limits::SEQUENCER_CHANNELS_MAX,
    record,
};

/// A broker that is taken over: until the end the process's own is as it was, and dropping this
/// leaves it so.
#[derive(Debug)]
pub struct BrokerTaking {
    clock: Clock,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Embedded(Arc<Embedded>, SequencerTaking),
    Redis(Arc<Process>, RedisTaking),
}

impl Shared {
    /// Begins to take over the state of another process's broker, before this one's handles are
    /// made. None: it is the caller's own.
    ///
    /// With Redis nothing that is published arrives from here on: it waits until the end, or until
    /// this is dropped.
    #[must_use]
    pub fn take_over(&self) -> Option<BrokerTaking> {
        let target = match &self.mode {
            Mode::Embedded(embedded) => {
                let settings = *embedded.lock().state.settings();
                let taking = SequencerTaking::new(settings, SEQUENCER_CHANNELS_MAX);
                Target::Embedded(embedded.clone(), taking)
            }
            Mode::Redis(process) => Target::Redis(process.clone(), process.take_over()),
            Mode::HandedIn(_) => return None,
        };
        Some(BrokerTaking { clock: self.health.clock, target })
    }
}

impl BrokerTaking {
    /// The next chunk of [`super::BrokerGiving`]; all of them in their order.
    ///
    /// # Errors
    /// When it cannot be read, or is another broker's; the rest has no meaning then.
    pub fn put(&mut self, chunk: &[u8]) -> Result<(), TakeError> {
        let part: BrokerPart = record::from_bytes(chunk)?;
        match &mut self.target {
            Target::Embedded(_, taking) => taking.put(part, self.clock.now()),
            Target::Redis(process, taking) => process.put(taking, part, self.clock.now()),
        }
    }

    /// Waits until Redis is reached and all channels that were named so far are subscribed to; if
    /// the other process does not reach Redis either, for nothing. To be called when a round of
    /// [`super::BrokerGiving::next_channels`] has arrived, before the other process learns that it
    /// has.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn subscribed(&mut self, within: Duration) -> Result<(), NotSubscribed> {
        match &mut self.target {
            Target::Embedded(..) => Ok(()),
            Target::Redis(process, taking) => process.subscribed(taking, within).await,
        }
    }

    /// All has arrived: the process's broker continues the other one's, from the next message on.
    /// Its own past is forgotten. Each shard has to have called [`crate::broker::Broker::keep`] by
    /// now. With Redis the messages follow that clients have not got: into the mailboxes.
    ///
    /// # Errors
    /// When the last chunk is missing; then the broker is as it was.
    pub fn finish(self) -> Result<(), TakeError> {
        match self.target {
            Target::Embedded(embedded, taking) => {
                *embedded.lock().state = taking.finish()?;
                Ok(())
            }
            Target::Redis(process, taking) => process.taken_over(taking),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::{
            BrokerSettings, HandleOwner, HistorySettings, Message, OnLoss, Principal, Receipt,
            connect,
        },
        channel::ChannelName,
        ws::Kind,
    };

    fn shared(clock: Clock) -> Arc<Shared> {
        let history = HistorySettings {
            messages_max: 10,
            bytes_max: 10_000,
            total_bytes_max: 100_000,
            ttl: Duration::from_secs(60),
        };
        let settings = BrokerSettings { redis: None, on_loss: OnLoss::Local, history };
        Shared::new(clock, settings, Vec::new()).unwrap()
    }

    async fn publish(shared: &Arc<Shared>, name: &str) -> String {
        let broker = connect(shared.clone(), HandleOwner::Control).await;
        let channel = ChannelName::new(name).unwrap();
        let (kind, data) = (Kind::Text, Bytes::from_static(b"x"));
        let message = Message { publisher: Principal::Api, channel, kind, data, key: None };
        match broker.publish(message).await.unwrap() {
            Receipt::Cluster(position) => position.to_string(),
            Receipt::Local => unreachable!("there is no Redis to be away"),
        }
    }

    /// A process publishes on where another one stopped, and an unfinished hand-over changes
    /// neither.
    #[tokio::test(start_paused = true)]
    async fn a_process_publishes_on_where_another_one_stopped() {
        let (old, new) = (shared(Clock::start()), shared(Clock::start()));
        let first = publish(&old, "a").await;
        let mut giving = old.give().unwrap();
        let mut taking = new.take_over().unwrap();
        let mut chunks = 0;
        while let Some(chunk) = giving.next_chunk() {
            taking.put(&chunk).unwrap();
            chunks += 1;
        }
        assert!(chunks > 0 && taking.put(b"no chunk").is_err());
        publish(&old, "a").await;
        publish(&old, "b").await;
        assert!(matches!(new.take_over().unwrap().finish(), Err(TakeError::Incomplete)));
        giving.finish().for_each(|chunk| taking.put(&chunk).unwrap());
        taking.finish().unwrap();
        let epoch = first.strip_suffix(":1").unwrap();
        assert_eq!(publish(&new, "a").await, format!("{epoch}:3"));
        assert_eq!(publish(&new, "b").await, format!("{epoch}:2"));
        assert_eq!(publish(&old, "a").await, format!("{epoch}:3"), "it goes on if need be");
    }
}
