//! Messages that Redis has acknowledged and sent to a shard, and that are lost with the shard's
//! connection: on a channel of which the shard has never heard anything, nothing but its position
//! shows that.

use std::{net::SocketAddr, time::Duration};

use wsbcast::broker::{BrokerSettings, OnLoss, Receipt, Since, Subscribers};

use crate::{
    process::{HISTORY, Process, TestSink, channel, offset, redis_settings, run, until},
    proxy::Proxy,
    redis_server::RedisServer,
};

/// Two shards of a process that reach Redis through a proxy, and a process that publishes.
struct Stage {
    server: RedisServer,
    proxy: Proxy,
    process: Process,
    publisher: Process,
    /// Where the publisher's own subscribers come from.
    direct: Vec<SocketAddr>,
    subscribers: Subscribers,
}

/// Where connections that have subscribed to something come from.
fn listening_from(server: &RedisServer) -> Vec<SocketAddr> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    let address = |line: &str| {
        let address = line.split(' ').find_map(|word| word.strip_prefix("addr="));
        address.unwrap().parse().unwrap()
    };
    list.lines().map(address).collect()
}

/// All that has arrived on `a`.
fn heard(sink: &TestSink) -> Vec<String> {
    let on_it = sink.messages().into_iter().filter(|message| message.channel.as_str() == "a");
    on_it.map(|message| String::from_utf8(message.data.to_vec()).unwrap()).collect()
}

impl Stage {
    async fn start(subscribers: Subscribers) -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::start(&server.address(), Duration::ZERO);
        let mut settings = BrokerSettings {
            redis: Some(redis_settings(&server)),
            on_loss: OnLoss::Local,
            history: HISTORY,
        };
        let publisher = Process::start(settings.clone(), 1).await;
        let direct = listening_from(&server);
        let redis = settings.redis.as_mut().unwrap();
        redis.url = format!("redis://{}", proxy.address());
        redis.subscribers = subscribers;
        let process = Process::start(settings, 2).await;
        Self { server, proxy, process, publisher, direct, subscribers }
    }

    /// Messages that Redis publishes from now on are lost on their way to the process.
    fn stall_subscribers(&self) {
        let of_process = |from: &SocketAddr| !self.direct.contains(from);
        let subscribers = listening_from(&self.server);
        subscribers.into_iter().filter(of_process).for_each(|from| self.proxy.stall(from));
    }

    /// Every shard has a client of `a`, which could be told no position, and has one by now.
    async fn unplaced(&self) {
        let Self { server, process, publisher, .. } = self;
        process.subscribe("b").await;
        server.pause();
        for shard in &process.shards {
            shard.confirm_subscription(channel("a")).await;
        }
        server.resume();
        process.up().await;
        let confirmed = if self.subscribers == Subscribers::PerShard { "2" } else { "1" };
        until("they are subscribed", || {
            server.cli(&["PUBSUB", "NUMSUB", "test:{a}"]).lines().nth(1) == Some(confirmed)
        })
        .await;
        // A later message has arrived, and later queries are answered.
        offset(publisher.publish("b", "0").await);
        for (sink, shard) in process.sinks.iter().zip(&process.shards) {
            until("the confirmation has arrived", || sink.texts() == ["0"]).await;
            shard.position(channel("c"), None).await.unwrap();
        }
    }

    /// The process has other connections.
    async fn reconnect(&self) {
        self.proxy.cut();
        self.process.lost().await;
        self.process.up().await;
    }

    /// Messages on a channel whose pushes are lost arrive with the next connection, once, and
    /// before those that follow.
    async fn assert_lost_ones_are_fetched(&self, count: u64) {
        self.stall_subscribers();
        let texts: Vec<String> = (1..=count + 1).map(|number| number.to_string()).collect();
        for (number, text) in (1..=count).zip(&texts) {
            assert_eq!(offset(self.publisher.publish("a", text).await), number);
        }
        self.reconnect().await;
        for sink in &self.process.sinks {
            until("they have arrived", || heard(sink).len() as u64 == count).await;
        }
        offset(self.publisher.publish("a", &texts[count as usize]).await);
        for sink in &self.process.sinks {
            until("the last has arrived", || sink.texts().last() == texts.last()).await;
            assert_eq!((heard(sink), sink.gaps()), (texts.clone(), 0));
        }
    }
}

/// Regression: the first message of a channel was missed without a word if the connection that it
/// came on was lost, since the shard had nothing to compare with.
#[test]
fn a_first_message_lost_on_its_way_is_fetched() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        for count in [1, 3] {
            run(async {
                let stage = Stage::start(subscribers).await;
                stage.process.subscribe("a").await;
                stage.assert_lost_ones_are_fetched(count).await;
            });
        }
    }
}

/// Regression: a client that was let in while Redis did not answer, so that nobody could tell where
/// the channel stood, missed without a word what was lost with the next connection.
#[test]
fn a_place_that_was_unknown_at_first_is_found_out() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        run(async {
            let stage = Stage::start(subscribers).await;
            stage.unplaced().await;
            stage.assert_lost_ones_are_fetched(1).await;
        });
    }
}

/// A client that comes to one that was told no position begins where that one does: no message that
/// is on its way just then is passed over. One that has it already, from elsewhere, waits for it.
/// Regression: it began after it, and so did the other.
#[test]
fn a_second_client_passes_over_nothing() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        run(async {
            let stage = Stage::start(subscribers).await;
            stage.unplaced().await;
            stage.stall_subscribers();
            let newest = match stage.publisher.publish("a", "1").await {
                Ok(Receipt::Cluster(position)) => position,
                other => panic!("{other:?}"),
            };
            assert_eq!(newest.offset, 1);
            let since = Since::After(newest);
            for shard in &stage.process.shards {
                assert_eq!(shard.position(channel("a"), Some(&since)).await, None);
                assert_eq!(shard.position(channel("a"), None).await.unwrap().offset, 0);
            }
            stage.reconnect().await;
            for sink in &stage.process.sinks {
                until("it has arrived", || heard(sink) == ["1"]).await;
            }
            for shard in &stage.process.shards {
                for since in [None, Some(&since)] {
                    assert_eq!(shard.position(channel("a"), since).await.unwrap().offset, 1);
                }
            }
        });
    }
}

/// A client that comes without a position hears only what comes after it: what was published before
/// is in nobody's way, lost connection or not.
#[test]
fn a_newcomer_is_not_given_what_was_before_it() {
    run(async {
        let stage = Stage::start(Subscribers::PerShard).await;
        for text in ["1", "2"] {
            offset(stage.publisher.publish("a", text).await);
        }
        stage.process.subscribe("a").await;
        stage.stall_subscribers();
        stage.reconnect().await;
        assert_eq!(offset(stage.publisher.publish("a", "3").await), 3);
        for sink in &stage.process.sinks {
            until("it has arrived", || !sink.messages().is_empty()).await;
            assert_eq!((sink.texts(), sink.gaps()), (vec!["3".to_owned()], 0));
        }
    });
}
