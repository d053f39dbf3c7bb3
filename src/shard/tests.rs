//! Whole shards over real sockets, stepped by hand.

mod joining;
mod out_of_reach;
mod sim;
mod sometimes;

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Millis,
    conn::{ClientPublish, ClientSettings, ConnectionTable, ResumeMiss, keepalive, socket::Poller},
    drain::Control,
    hub::{self, Budget, Hub, SlowPolicy},
    metrics::ShardMetrics,
};

/// A shard's table of clients, and what keeps its sockets' readiness.
fn clients(control: &Arc<Control>) -> (Poller, ConnectionTable) {
    let (poller, registry) = Poller::new().unwrap();
    let budget = Arc::new(Budget::new(64 << 20));
    let hub_settings = hub::HubSettings {
        backlog_bytes: 8 << 20,
        slow: SlowPolicy::Close,
        slow_close_frame: Box::default(),
    };
    let settings = ClientSettings {
        message_bytes_max: 65_536,
        broadcast_bytes_max: 65_536,
        client_publish: ClientPublish::Off,
        compression_threshold_bytes: 256,
        resume_miss: ResumeMiss::Close,
        greeting: None,
        keepalive: keepalive::KeepaliveSettings {
            interval: None,
            timeout: Duration::from_secs(20),
        },
    };
    let hub = Hub::new(hub_settings, budget.clone());
    let metrics = Arc::new(ShardMetrics::default());
    let now = Millis(0);
    let clients =
        ConnectionTable::new(hub, registry, settings, budget, control.clone(), metrics, now);
    (poller, clients)
}
