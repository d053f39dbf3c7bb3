//! Facts that become known while Redis is being asked about something else, or not at all.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
};

use fred::types::Value;
use tokio::time::timeout;

use super::{
    ALL, SHARDS,
    away::View,
    listener::Recorded,
    model::Redis,
    settings::{process, recoverer, subscriber},
};
use crate::{
    broker::{
        Sink,
        redis::{
            commands::{call_error::CallError, stand_in::StandIn},
            protocol::{replies::StreamPosition, scripts::Script},
            pubsub::subscriber::Subscriber,
        },
    },
    channel::ChannelName,
    limits::SUBSCRIBE_DEADLINE,
};

/// Answers, and before the next answer the subscriber learns where its channel stood.
#[derive(Debug)]
struct Late {
    view: View,
    learns: RefCell<Option<(Weak<Subscriber>, StreamPosition)>>,
}

impl StandIn for Late {
    fn answer(&self, script: &Script, args: Vec<Value>) -> Result<Value, CallError> {
        if let Some((subscriber, stream_position)) = self.learns.take() {
            let subscriber = subscriber.upgrade().unwrap();
            assert!(subscriber.set_baseline(
                &ChannelName::new("a").unwrap(),
                &stream_position,
                None
            ));
        }
        self.view.answer(script, args)
    }
}

/// A hole before a message also shows when it becomes known only during a query.
#[tokio::test(start_paused = true)]
async fn a_hole_shows_even_if_it_is_known_amid_a_query() {
    let redis = Rc::new(Redis::new(fastrand::Rng::with_seed(1), SHARDS, ALL, false));
    let view = View { redis: redis.clone(), process: 0 };
    let late = Rc::new(Late { view, learns: RefCell::default() });
    let recorded = Arc::new(Recorded::default());
    let process = process(ALL, vec![recorded.clone() as Arc<dyn Sink>]);
    let subscriber = Rc::new(subscriber(&process, 0, late.clone()));
    let channel = ChannelName::new("a").unwrap();

    (0..5).for_each(|_| redis.publish());
    let stream_position = subscriber.delivery.recoverer.stream_position(&channel).await.unwrap();
    assert_eq!(stream_position.position.offset, 5);
    // Before the subscription is confirmed; the answer is on its way.
    (0..2).for_each(|_| redis.publish());
    assert!(redis.connect(0));
    subscriber.change(|subscriptions| subscriptions.connected());
    let waiting = subscriber.want(channel.clone());
    subscriber.change(|subscriptions| {
        while let Some(command) = subscriptions.next_command() {
            subscriptions.answered(&command, false);
        }
    });
    assert!(waiting.is_some(), "it asks for the position itself");
    redis.publish();
    late.learns.replace(Some((Rc::downgrade(&subscriber), stream_position)));
    let payload = redis.take(0).unwrap();
    let name = process.settings.names.channel(&channel);
    subscriber.delivery.publication(channel, &name, &payload).await.unwrap();
    subscriber.delivery.check().await.unwrap();
    let offsets: Vec<u64> = recorded.offsets();
    assert_eq!(offsets, [6, 7, 8]);
}

/// An era that a shard at a standstill is reading is read by others too.
#[tokio::test(start_paused = true)]
async fn an_epoch_held_by_a_stalled_shard_is_read_by_others() {
    let redis = Rc::new(Redis::new(fastrand::Rng::with_seed(1), SHARDS, ALL, false));
    let process = process(ALL, Vec::new());
    let recoverer = recoverer(&process, 0, Rc::new(View { redis, process: 0 }));
    let stands_still = process.empty_epoch.read.lock().await;
    let empty = timeout(SUBSCRIBE_DEADLINE, recoverer.empty()).await.unwrap().position;
    drop(stands_still);
    assert_eq!(recoverer.empty().await.position, empty, "what Redis says");
}
