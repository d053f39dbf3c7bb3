//! A client that was let in before anybody could tell it where the channel stands: from the moment
//! on that its shard is subscribed, and Redis has answered, it has a place all the same.

use std::{rc::Rc, sync::Arc};

use super::{
    ALL, SHARDS, SHARDS_EACH, World,
    away::View,
    listener::Recorded,
    model::Redis,
    settings::{process, subscriber},
};
use crate::{broker::Sink, channel::ChannelName, position::Position};

impl World {
    /// The shard of a client without a place has compared itself with Redis: all that is published
    /// from now on reaches the client, or it is told. `has_answered`: Redis has, each time.
    pub(super) fn begin_unplaced(&mut self, shard: usize, has_answered: bool) {
        let subscriber = &self.shards[shard].subscriber;
        let is_heard = subscriber.confirmed_on(&self.channel).is_some();
        if self.shards[shard].listener.at.is_some() || !is_heard {
            return;
        }
        let name = self.process(shard).settings.names.channel(&self.channel);
        let known = subscriber
            .delivery
            .with_tracker(&name, |tracker| tracker.last().map(|(position, _)| position.clone()));
        let there = || {
            let held = self.redis.server(shard / SHARDS_EACH).0.borrow();
            match &held.epoch {
                Some(epoch) => Position { epoch: epoch.as_str().into(), offset: held.offset },
                None => Position::empty("unknown"),
            }
        };
        let Some(position) = known.flatten().or_else(|| has_answered.then(there)) else { return };
        let listener = &mut self.shards[shard].listener;
        listener.since = self.redis.newest_text();
        listener.begin_unplaced(position, self.redis.published.borrow().len());
    }
}

/// A message that was on its way when the position was asked for is delivered to a client without
/// a place; and one that is lost with the connection after that, once there is another.
#[tokio::test(start_paused = true)]
async fn a_client_without_a_place_misses_nothing() {
    let redis = Rc::new(Redis::new(fastrand::Rng::with_seed(1), SHARDS, ALL, false));
    let recorded = Arc::new(Recorded::default());
    let process = process(ALL, vec![recorded.clone() as Arc<dyn Sink>]);
    let subscriber = subscriber(&process, 0, Rc::new(View { redis: redis.clone(), process: 0 }));
    let channel = ChannelName::new("a").unwrap();
    let name = process.settings.names.channel(&channel);
    let connect = || {
        assert!(redis.connect(0));
        subscriber.change(|subscriptions| {
            subscriptions.connected();
            while let Some(command) = subscriptions.next_command() {
                subscriptions.answered(&command, false);
            }
        });
    };
    drop(subscriber.want(channel.clone()));
    connect();
    (0..3).for_each(|_| redis.publish());
    subscriber.delivery.check().await.unwrap();
    (0..2).for_each(|_| redis.publish());
    while let Some(payload) = redis.take(0) {
        subscriber.delivery.publication(channel.clone(), &name, &payload).await.unwrap();
    }
    assert_eq!(recorded.offsets(), [1, 2, 3, 4, 5]);

    // The next one wants it anew, and is told nothing either.
    subscriber.unwant(&channel);
    drop(subscriber.want(channel.clone()));
    connect();
    subscriber.delivery.check().await.unwrap();
    redis.publish();
    redis.disconnect(0);
    subscriber.change(|subscriptions| subscriptions.disconnected());
    connect();
    subscriber.delivery.check().await.unwrap();
    assert_eq!(recorded.offsets(), [6]);
}
