//! The memory that a process makes Redis keep is bounded, for each of its publishers.

use bytes::Bytes;
use futures_util::FutureExt;
use wsbcast::{
    broker::{
        Broker, BrokerSettings, HistorySettings, Message, OnLoss, Principal, PublishError, Receipt,
        Since,
    },
    limits::{CHANNELS_BEGUN_MAX, HISTORY_READ_CHUNK, REDIS_HISTORIES_FACTOR},
};

use crate::{
    Backend, RedisServer,
    history::recover,
    process::{HISTORY, Process, channel, keyed, offset, redis_settings, run},
};

/// The results of publishing to so many channels, a thousand of them on their way at a time.
async fn to_all(
    broker: &dyn Broker,
    publisher: Principal,
    names: &[String],
) -> Vec<Result<Receipt, PublishError>> {
    let mut answers = Vec::new();
    for some in names.chunks(1000) {
        let publishes = some.iter().map(|name| {
            let message = keyed(name, "key", "x");
            broker.publish(Message { publisher, key: None, ..message })
        });
        answers.extend(futures_util::future::join_all(publishes).await);
    }
    answers
}

/// How many have a place, and how many may have one: their answers came too late.
fn fates(answers: &[Result<Receipt, PublishError>]) -> (usize, usize) {
    let count = |is_meant: fn(&Result<Receipt, PublishError>) -> bool| {
        answers.iter().filter(|answer| is_meant(answer)).count()
    };
    let placed = count(|answer| matches!(answer, Ok(Receipt::Cluster(_))));
    (placed, count(|answer| *answer == Err(PublishError::Unconfirmed)))
}

/// A publisher of ever new channels is refused, and every other publisher goes on.
#[test]
fn a_publisher_of_ever_new_channels_is_refused() {
    run(async {
        let backend = Backend::Redis(RedisServer::start());
        let process = Process::start(backend.settings(), 1).await;
        let own = CHANNELS_BEGUN_MAX / 4 * 3;
        let names: Vec<_> = (0..own + 2000).map(|number| format!("c{number}")).collect();
        let anonymous = to_all(&*process.shards[0], Principal::Anonymous, &names).await;
        let (begun, in_doubt) = fates(&anonymous);
        // Messages on their way count, too, and those of which it is not known.
        assert!(begun <= own && begun + in_doubt >= own, "{begun}, {in_doubt} in doubt");
        assert_eq!(anonymous.last(), Some(&Err(PublishError::ChannelsFull)));
        let Backend::Redis(server) = &backend else { unreachable!("it is one") };
        let keys: usize = server.cli(&["DBSIZE"]).parse().unwrap();
        assert!(
            keys <= 2 * (begun + in_doubt) + 1,
            "{keys}: nothing of the others, but the bridge's lease"
        );
        let again = to_all(&*process.shards[0], Principal::Anonymous, &names[..10]).await;
        assert!(again.into_iter().all(|answer| offset(answer) == 2), "those there are go on");
        let unheard = &names[names.len() - 1..];
        let api = to_all(&*process.shards[0], Principal::Api, unheard).await;
        assert_eq!(offset(api[0].clone()), 1, "others begin channels");
    });
}

/// Another process than the one before, on another Redis.
async fn start(history: HistorySettings) -> (RedisServer, Process) {
    let server = RedisServer::start();
    let redis = Some(redis_settings(&server));
    let settings = BrokerSettings { redis, on_loss: OnLoss::Local, history };
    let process = Process::start(settings, 1).await;
    (server, process)
}

/// `who` says something of this size.
async fn say(process: &Process, publisher: Principal, name: &str, bytes: usize) -> u64 {
    let message = keyed(name, "key", "");
    let data = Bytes::from("x".repeat(bytes));
    offset(process.shards[0].publish(Message { publisher, key: None, data, ..message }).await)
}

fn number(server: &RedisServer, words: &[&str]) -> usize {
    server.cli(words).parse().unwrap()
}

/// How often Redis was told to do that.
fn calls(server: &RedisServer, command: &str) -> usize {
    let stats = server.cli(&["INFO", "commandstats"]);
    let start = format!("cmdstat_{command}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

fn used_bytes(server: &RedisServer) -> usize {
    let info = server.cli(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}

/// A history in Redis has what was promised and not much more in bytes.
/// Regression: a history had so many messages, however large they were.
#[test]
fn a_history_in_redis_keeps_its_bounds() {
    run(async {
        let bytes_max = 256 * 1024;
        let (server, process) = start(HistorySettings { bytes_max, ..HISTORY }).await;
        let mut sizes = fastrand::Rng::with_seed(41);
        let (mut said, stream) = (Vec::new(), "test:{a}:stream");
        for round in 0..400 {
            let size = if round % 3 == 0 { sizes.usize(0..64 * 1024) } else { sizes.usize(0..900) };
            said.push(size + 128);
            assert_eq!(say(&process, Principal::Api, "a", size).await, round + 1);
            let kept = number(&server, &["XLEN", stream]);
            let bytes: usize = said.iter().rev().take(kept).sum();
            let is_all = kept == said.len();
            assert!(is_all || bytes > bytes_max - 65 * 1024, "{round}: {kept}, {bytes} B");
            // Whole nodes go, of 4 KiB or of one message.
            assert!(bytes <= 2 * bytes_max + 65 * 1024 + 8192, "{round}: {kept}, {bytes} B");
        }
        let used = number(&server, &["MEMORY", "USAGE", stream, "SAMPLES", "0"]);
        assert!(used < 3 * bytes_max, "{used}");
    });
}

/// A message that Redis refuses takes nothing of a history with it.
/// Regression: what a refused message began stayed begun, and the next one ended the history.
#[test]
fn a_refused_message_takes_no_history_with_it() {
    run(async {
        let nodes_of_one = ["--save", "", "--appendonly", "no", "--stream-node-max-entries", "1"];
        let server = RedisServer::start_with(&nodes_of_one);
        let history = HistorySettings { bytes_max: 10_000, ..HISTORY };
        let redis = Some(redis_settings(&server));
        let process =
            Process::start(BrokerSettings { redis, on_loss: OnLoss::Local, history }, 1).await;
        // One more, and the newer half is full.
        for expected in 1..=8 {
            assert_eq!(say(&process, Principal::Api, "a", 1000).await, expected);
        }
        server.cli(&["ACL", "SETUSER", "default", "-xadd"]);
        let refused = process.shards[0].publish(keyed("a", "key", &"x".repeat(1000))).await;
        assert_eq!(refused, Ok(Receipt::Local));
        server.cli(&["ACL", "SETUSER", "default", "+xadd"]);
        assert_eq!(say(&process, Principal::Api, "a", 1000).await, 9);
        assert_eq!(number(&server, &["XLEN", "test:{a}:stream"]), 9);
    });
}

/// Regression: small messages were read until their payloads had the bytes of a whole history.
#[test]
fn of_small_messages_no_more_is_read_than_can_be_kept() {
    run(async {
        let bytes_max = 64 * 1024;
        let history = HistorySettings { bytes_max, messages_max: 10_000, ..HISTORY };
        let (server, process) = start(history).await;
        let last = 900;
        for expected in 1..=last {
            assert_eq!(say(&process, Principal::Api, "a", 10).await, expected);
        }
        let redis = Some(redis_settings(&server));
        let another = BrokerSettings { redis, on_loss: OnLoss::Local, history };
        let another = Process::start(another, 1).await;
        another.subscribe("a").await;
        let to = another.shards[0].position(channel("a"), None).await.unwrap();
        server.cli(&["CONFIG", "RESETSTAT"]);
        let (from, _) = recover(&*another.shards[0], Since::Newest(10_000), &to).await;
        let most = bytes_max as u64 / (10 + 128);
        assert!((most - 1..=most).contains(&(last - from)), "{from}: not {most}");
        let chunks = calls(&server, "xrevrange");
        assert!(chunks as u64 <= most / HISTORY_READ_CHUNK as u64 + 1, "{chunks}");
    });
}

/// A publisher's share of Redis is bounded in bytes, and others keep what they have.
/// Regression: so many channels, each with a history of any size.
#[test]
fn a_publishers_streams_in_redis_are_bounded() {
    run(async {
        let total = 1024 * 1024;
        let (bytes_max, total_bytes_max) = (total / 4, total);
        let (server, process) =
            start(HistorySettings { bytes_max, total_bytes_max, ..HISTORY }).await;
        say(&process, Principal::Api, "before", 10_000).await;
        say(&process, Principal::Api, "shared", 10_000).await;
        let empty = used_bytes(&server);
        let most = total * REDIS_HISTORIES_FACTOR;
        let largest = 60 * 1024;
        for number in 0..3 * most / largest {
            // It reaches everybody all the same.
            assert_eq!(
                say(&process, Principal::Anonymous, &format!("c{number}"), largest).await,
                1
            );
        }
        let grown = used_bytes(&server) - empty;
        // The allocator and tables of keys take a little of their own.
        assert!(grown < most, "{grown} B");
        assert!(grown > most / 2, "{grown} B: its share is kept");
        let evicted = || process.shared.evicted().channels;
        assert_eq!(evicted(), 0, "new ones had nothing");
        let kept = |name: &str| number(&server, &["XLEN", &format!("test:{{{name}}}:stream")]);
        assert_eq!((kept("c0"), kept("before")), (1, 1), "what was there stays");
        say(&process, Principal::Anonymous, "shared", 10_000).await;
        assert_eq!(kept("shared"), 2, "it is not its own");
        say(&process, Principal::Api, "after", 10_000).await;
        assert_eq!(kept("after"), 1, "others have room");
        say(&process, Principal::Anonymous, "c0", largest).await;
        assert_eq!((kept("c0"), evicted()), (0, 1), "its own give way");
        say(&process, Principal::Anonymous, "c0", largest).await;
        assert_eq!(kept("c0"), 1, "to others of its own");
    });
}

/// Messages that nobody waits for any more take nothing up for ever.
/// Regression: what nobody waited for any more was on its way for ever.
#[test]
fn abandoned_messages_take_up_nothing() {
    run(async {
        let total_bytes_max = 256 * 1024;
        let (server, process) = start(HistorySettings { total_bytes_max, ..HISTORY }).await;
        for _ in 0..40 {
            let data = Bytes::from("x".repeat(60 * 1024));
            let message = Message { data, key: None, ..keyed("a", "key", "") };
            assert_eq!(process.shards[0].publish(message).now_or_never(), None);
        }
        // Too much of its own: that goes, and then there is room again.
        for _ in 0..2 {
            say(&process, Principal::Api, "a", 60 * 1024).await;
        }
        assert_eq!(number(&server, &["XLEN", "test:{a}:stream"]), 1);
    });
}

/// A publisher of ever new keys is refused, and every other publisher goes on.
#[test]
fn a_publisher_of_ever_new_keys_is_refused() {
    run(async {
        let (server, process) = start(HISTORY).await;
        let say = async |publisher, key: &str| {
            process.shards[0].publish(Message { publisher, ..keyed("a", key, "x") }).await
        };
        let share = redis_settings(&server).keys_bytes_max / 4 * 3;
        let (mut added, mut last) = (0, None);
        while last.is_none() {
            let key = format!("key-{added:04}");
            assert!(added < share / 256, "{added} keys");
            match say(Principal::Anonymous, &key).await {
                Ok(Receipt::Cluster(position)) => added = usize::try_from(position.offset).unwrap(),
                other => last = Some(other),
            }
        }
        assert_eq!(last, Some(Err(PublishError::KeysFull)));
        // Each counts as 256 B, and its text and its channel's name.
        assert_eq!(added, share / (256 + "key-0000".len() + "a".len()));
        let in_redis = server.cli(&["--scan", "--pattern", "test:{a}:idem*"]).lines().count();
        assert_eq!(in_redis, added);
        let known = say(Principal::Anonymous, "key-0000").await;
        assert_eq!(offset(known), 1, "what was said is known still");
        let others = say(Principal::Api, "key-9999").await;
        assert_eq!(
            offset(others),
            added as u64 + 1,
            "others have room, and nothing was sent twice"
        );
        let plain = Message { publisher: Principal::Anonymous, key: None, ..keyed("a", "k", "x") };
        assert_eq!(offset(process.shards[0].publish(plain).await), added as u64 + 2);
    });
}
