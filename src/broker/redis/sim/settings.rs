//! What the simulated processes are told by their operator.

use std::time::Duration;

use crate::broker::{HistorySettings, OnLoss, RedisSettings, Settings, Subscribers};

pub(super) fn settings(messages_max: usize) -> Settings {
    let redis = RedisSettings {
        url: "redis://127.0.0.1:1".to_owned(),
        subscribers: Subscribers::PerShard,
        pool: 1,
        prefix: "test".to_owned(),
        raw_channel: None,
        keys_bytes_max: usize::MAX,
        max_broadcast_bytes: 1_000,
    };
    let history = HistorySettings {
        messages_max,
        bytes_max: 1 << 20,
        total_bytes_max: 1 << 20,
        ttl: Duration::from_secs(300),
    };
    Settings { redis: Some(redis), on_loss: OnLoss::Local, history }
}
