//! Sinks that remember, and processes made of a broker and such sinks.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Notify, oneshot};
use wsbcast::clock::Clock;
use wsbcast::{
    bans::Bans,
    broker::{
        Announcement, Broker, BrokerSettings, HandleOwner, Health, HistorySettings, IdempotencyKey,
        Message, Missed, OnLoss, Principal, Publication, PublishError, Reach, Receipt,
        RedisSettings, RedisTls, Shared, Sink, Subscribers, connect,
    },
    channel::ChannelName,
    ws::Kind,
};

use super::redis_server::RedisServer;
pub(crate) use super::running::{now, run, run_in_real_time};

/// Far beyond what any condition needs: a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// One thing that a shard saw; they are kept in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Message(Publication),
    Gap(ChannelName, Missed),
}

/// A mailbox that remembers everything.
#[derive(Debug)]
pub(crate) struct TestSink {
    seen: Mutex<Vec<Seen>>,
    announced: Mutex<Vec<Announcement>>,
    room: AtomicUsize,
    has_room: Notify,
}

impl Default for TestSink {
    fn default() -> Self {
        let room = AtomicUsize::new(usize::MAX);
        Self { seen: Mutex::default(), announced: Mutex::default(), room, has_room: Notify::new() }
    }
}

impl TestSink {
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn announced(&self) -> Vec<Announcement> {
        self.announced.lock().unwrap().clone()
    }

    pub(crate) fn messages(&self) -> Vec<Publication> {
        let message = |seen| match seen {
            Seen::Message(publication) => Some(publication),
            Seen::Gap(..) => None,
        };
        self.seen().into_iter().filter_map(message).collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |message: Publication| String::from_utf8(message.data.to_vec()).unwrap();
        self.messages().into_iter().map(text).collect()
    }

    pub(crate) fn offsets(&self) -> Vec<u64> {
        let offset = |message: Publication| message.position.map(|position| position.offset);
        self.messages().into_iter().filter_map(offset).collect()
    }

    pub(crate) fn gaps(&self) -> usize {
        self.seen().iter().filter(|seen| matches!(seen, Seen::Gap(..))).count()
    }

    /// How many of them tell plain clients, too.
    pub(crate) fn certain_gaps(&self) -> usize {
        let is_certain = |seen: &&Seen| matches!(seen, Seen::Gap(_, missed) if missed.is_certain());
        self.seen().iter().filter(is_certain).count()
    }

    /// The holes that were told: epoch, first and last offset.
    pub(crate) fn missed(&self) -> Vec<(String, u64, Option<u64>)> {
        let missed = |seen| match seen {
            Seen::Gap(_, Missed { epoch, from, to, .. }) => {
                Some((epoch.map_or_else(String::new, |epoch| epoch.to_string()), from, to))
            }
            Seen::Message(_) => None,
        };
        self.seen().into_iter().filter_map(missed).collect()
    }

    /// The mailbox takes nothing more, or everything again.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.room.store(bytes, Ordering::SeqCst);
        self.has_room.notify_waiters();
    }
}

impl Sink for TestSink {
    fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.room.load(Ordering::SeqCst)
    }

    fn deliver(&self, publication: Publication) {
        self.seen.lock().unwrap().push(Seen::Message(publication));
    }

    fn gap(&self, channel: &ChannelName, missed: Missed) {
        self.seen.lock().unwrap().push(Seen::Gap(channel.clone(), missed));
    }

    fn announce(&self, announcement: Announcement, count: Option<oneshot::Sender<usize>>) {
        self.announced.lock().unwrap().push(announcement);
        if let Some(count) = count {
            count.send(1).unwrap();
        }
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {
            while self.room.load(Ordering::SeqCst) == 0 {
                self.has_room.notified().await;
            }
        }
        .boxed()
    }
}

/// The ground that the broker under test stands on.
pub(crate) enum Backend {
    Embedded,
    Redis(RedisServer),
    /// One shard subscribes for all.
    RedisPerProcess(RedisServer),
}

impl Backend {
    pub(crate) fn settings(&self) -> BrokerSettings {
        let redis = match self {
            Self::Embedded => None,
            Self::Redis(server) => Some(redis_settings(server)),
            Self::RedisPerProcess(server) => Some(RedisSettings {
                subscribers: Subscribers::PerProcess,
                ..redis_settings(server)
            }),
        };
        BrokerSettings { redis, on_loss: OnLoss::Local, history: HISTORY }
    }
}

/// Enough for every test but those about its bounds.
pub(crate) const HISTORY: HistorySettings = HistorySettings {
    messages_max: 1000,
    bytes_max: 8 << 20,
    total_bytes_max: 64 << 20,
    ttl: Duration::from_secs(300),
};

pub(crate) fn redis_settings(server: &RedisServer) -> RedisSettings {
    RedisSettings {
        url: server.url(),
        tls: RedisTls::default(),
        subscribers: Subscribers::PerShard,
        pool: 1,
        prefix: "test".to_owned(),
        raw_channel: Some("raw".to_owned()),
        max_broadcast_bytes: 1024 * 1024,
        bans: Some(Arc::new(Bans::new(Clock::start()))),
        keys_bytes_max: 1024 * 1024,
    }
}

/// A process: a broker, its shards' sinks and handles, all on the calling thread.
pub(crate) struct Process {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sinks: Vec<Arc<TestSink>>,
    pub(crate) shards: Vec<Rc<dyn Broker>>,
    pub(crate) control: Rc<dyn Broker>,
}

impl Process {
    /// A process whose shards are all within reach of the broker.
    pub(crate) async fn start(settings: BrokerSettings, shards: usize) -> Self {
        let process = Self::start_early(settings, shards).await;
        process.up().await;
        process
    }

    /// A process, whatever its broker is about.
    pub(crate) async fn start_early(settings: BrokerSettings, shards: usize) -> Self {
        let (shared, sinks) = shared(settings, shards);
        let mut handles = Vec::new();
        for shard in 0..shards {
            handles.push(connect(shared.clone(), HandleOwner::Shard(shard)).await);
        }
        let control = connect(shared.clone(), HandleOwner::Control).await;
        Self { shared, sinks, shards: handles, control }
    }

    /// Waits until messages go to the whole cluster.
    pub(crate) async fn up(&self) {
        let health = self.shared.health();
        until("the broker is up", || matches!(health.reach(), Reach::Up | Reach::Embedded)).await;
    }

    pub(crate) async fn lost(&self) {
        let health = self.shared.health();
        until("the broker is lost", || health.reach() == Reach::Lost).await;
    }

    /// Every shard has a first client of `name`.
    pub(crate) async fn subscribe(&self, name: &str) {
        for shard in &self.shards {
            shard.subscribe(channel(name)).await;
        }
    }

    pub(crate) async fn publish(&self, name: &str, text: &str) -> Result<Receipt, PublishError> {
        publish(&*self.shards[0], name, text).await
    }

    pub(crate) async fn close(self) {
        for handle in self.shards.into_iter().chain([self.control]) {
            handle.close().await;
        }
    }
}

pub(crate) fn shared(settings: BrokerSettings, shards: usize) -> (Arc<Shared>, Vec<Arc<TestSink>>) {
    let sinks: Vec<Arc<TestSink>> = (0..shards).map(|_| Arc::default()).collect();
    let dynamic = sinks.iter().map(|sink| sink.clone() as Arc<dyn Sink>).collect();
    (Shared::new(Clock::start(), settings, dynamic).unwrap(), sinks)
}

pub(crate) async fn publish(
    broker: &dyn Broker,
    name: &str,
    text: &str,
) -> Result<Receipt, PublishError> {
    let data = Bytes::copy_from_slice(text.as_bytes());
    let (publisher, kind) = (Principal::Api, Kind::Text);
    broker.publish(Message { publisher, channel: channel(name), kind, data, key: None }).await
}

/// Publishes `a` from so many sides until told to stop, each answered within `answer_max`; each
/// text's answer.
pub(crate) async fn load(
    process: Rc<Process>,
    publishers: usize,
    answer_max: Duration,
    stop: Rc<Cell<bool>>,
) -> HashMap<String, Result<Receipt, PublishError>> {
    let answers = RefCell::new(HashMap::new());
    let publishers = (0..publishers).map(|publisher| {
        let (process, stop, answers) = (&process, &stop, &answers);
        async move {
            for number in 0.. {
                if stop.get() {
                    break;
                }
                let text = format!("{publisher}:{number}");
                let handle = &process.shards[publisher % process.shards.len()];
                let asked = now();
                let answer = publish(&**handle, "a", &text).await;
                assert!(now() - asked <= answer_max);
                answers.borrow_mut().insert(text, answer);
                pace().await;
            }
        }
    });
    futures_util::future::join_all(publishers).await;
    answers.into_inner()
}

/// A message with an idempotency key.
pub(crate) fn keyed(name: &str, key: &str, text: &str) -> Message {
    let data = Bytes::copy_from_slice(text.as_bytes());
    let key = Some(IdempotencyKey::new(key).unwrap());
    Message { publisher: Principal::Api, channel: channel(name), kind: Kind::Text, data, key }
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

pub(crate) fn offset(receipt: Result<Receipt, PublishError>) -> u64 {
    match receipt {
        Ok(Receipt::Cluster(position)) => position.offset,
        other => panic!("not published to the cluster: {other:?}"),
    }
}

/// Publishes a message until it has a place in the history; which one. On a machine that is busy an
/// answer may be late, or the connection count as lost for a moment. The answer says so, and only
/// what was told may be: then the message is said again with its key, which publishes it once.
pub(crate) async fn publish_keyed(broker: &dyn Broker, health: &Health, message: Message) -> u64 {
    let told = || (health.reconnects(), health.refused());
    let publishing = async {
        loop {
            let before = told();
            match broker.publish(message.clone()).await {
                Ok(Receipt::Cluster(position)) => return position.offset,
                Err(PublishError::Unconfirmed) => {}
                answer @ (Ok(Receipt::Local) | Err(PublishError::BrokerLost)) => {
                    let is_told = health.reach() != Reach::Up || told() != before;
                    assert!(is_told, "{answer:?}, though Redis was there all the while");
                }
                other => panic!("{other:?}"),
            }
            health.up().await;
        }
    };
    let published = tokio::time::timeout(PATIENCE, publishing).await;
    published.expect("a message that is repeated gets to the cluster")
}

/// Waits for `condition`, looking again and again.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain until {what}");
}

/// The time between two messages of a publisher whose rate is part of what is tested: never to
/// wait for an effect.
pub(crate) async fn pace() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Waits until the next slot has begun: slots are parts of the time itself.
pub(crate) async fn next_slot(in_ms: u64) {
    tokio::time::sleep(Duration::from_millis(in_ms)).await;
}
