//! Tasks that hang on how long something lasts, on a paused clock: heartbeats, sentinels, the slot
//! map and the raw channel's lease. The tasks are the real ones; the servers are in memory, so that
//! time passes only when everybody waits for it, and a test takes none.

mod heartbeats;
mod lease;
mod sentinels;
mod slot_maps;

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::oneshot;

use super::{net::memory::texts, process::Process};
use crate::{
    broker::{
        Announcement, HistorySettings, Missed, OnLoss, Publication, RedisSettings, RedisTls, Sink,
        Subscribers,
    },
    channel::ChannelName,
    clock::Clock,
};

/// A process of one shard.
fn process(url: &str, raw_channel: Option<&str>) -> Arc<Process> {
    let redis = RedisSettings {
        url: url.to_owned(),
        tls: RedisTls::default(),
        subscribers: Subscribers::PerShard,
        pool: 1,
        prefix: "test".to_owned(),
        raw_channel: raw_channel.map(str::to_owned),
        bans: None,
        keys_bytes_max: usize::MAX,
        max_broadcast_bytes: 1_000,
    };
    let history = HistorySettings {
        messages_max: 10,
        bytes_max: 1 << 20,
        total_bytes_max: 1 << 20,
        ttl: Duration::from_secs(300),
    };
    let sinks: Vec<Arc<dyn Sink>> = vec![Arc::new(Unheard)];
    let process = Process::new(Clock::start(), redis, OnLoss::Reject, history, sinks);
    Arc::new(process.expect("the settings are good"))
}

/// A shard without clients.
#[derive(Debug)]
struct Unheard;

impl Sink for Unheard {
    fn has_room(&self, _bytes: usize) -> bool {
        true
    }

    fn deliver(&self, _publication: Publication) {}

    fn gap(&self, _channel: &ChannelName, _missed: Missed) {}

    fn announce(&self, _: Announcement, _: Option<oneshot::Sender<usize>>) {}

    fn room(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// The answers of a Redis that takes everything.
fn healthy(words: &[&str]) -> String {
    match words[0] {
        // Also what the trial of a publisher answers.
        "EVAL" | "EVALSHA" => "*3\r\n$1\r\ne\r\n:0\r\n$1\r\n0\r\n".to_owned(),
        "ROLE" => texts(&["master"]),
        _ => "+OK\r\n".to_owned(),
    }
}
