//! Whole shards over real sockets, stepped by hand.

mod by_tls;
mod closing;
mod commands;
mod handing_over;
mod joining;
mod out_of_reach;
mod sim;
mod sometimes;

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::{task::yield_now, time::timeout};

use super::{core::Core, mailbox::Mailbox, requests};
use crate::{
    broker::{self, Broker, HandleOwner},
    channel::ChannelPatterns,
    clock::{Clock, Millis},
    conn::{ClientPublish, ClientSettings, ConnectionTable, ResumeMiss, keepalive, socket::Poller},
    drain::Control,
    hub::{self, Budget, Hub, SlowPolicy},
    metrics::ShardMetrics,
    token::{TokenSettings, Verifier},
};

/// For what the kernel and other tasks do.
const PATIENCE: Duration = Duration::from_secs(60);

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes about");
}

/// Other tasks, and the sockets, have their turns.
async fn many_rounds() {
    for _ in 0..1_000 {
        yield_now().await;
    }
}

fn on_a_shards_thread(test: impl AsyncFnOnce()) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(test());
}

/// The only shard's handle on a broker without Redis, with histories of 10 messages.
async fn embedded(clock: Clock) -> Rc<dyn Broker> {
    let history = broker::HistorySettings {
        messages_max: 10,
        bytes_max: 1_000,
        total_bytes_max: 1_000,
        ttl: Duration::from_secs(300),
    };
    let settings = broker::BrokerSettings { redis: None, on_loss: broker::OnLoss::Local, history };
    let shared = broker::Shared::new(clock, settings, vec![Arc::new(Mailbox::new(clock))]).unwrap();
    broker::connect(shared, HandleOwner::Shard(0)).await
}

/// A verifier without keys.
fn verifier(clock: Clock) -> Arc<Verifier> {
    Arc::new(Verifier::new(clock, &TokenSettings::default()).unwrap())
}

/// A shard's state over a broker, and what keeps its sockets' readiness.
fn core(clock: Clock, broker: Rc<dyn Broker>, control: &Arc<Control>) -> (Poller, Rc<Core>) {
    core_of(clock, broker, Arc::new(Mailbox::new(clock)), control)
}

/// The same, of a shard with this mailbox.
fn core_of(
    clock: Clock,
    broker: Rc<dyn Broker>,
    mailbox: Arc<Mailbox>,
    control: &Arc<Control>,
) -> (Poller, Rc<Core>) {
    let (poller, clients) = clients(control);
    let (metrics, verifier) = (Arc::default(), verifier(clock));
    (poller, Core::new(clock, clients, broker, mailbox, metrics, verifier, requests::carry_out))
}

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
        public_channels: ChannelPatterns::all(),
        client_publish: ClientPublish::Off,
        compression_threshold_bytes: 256,
        resume_miss: ResumeMiss::Close,
        greeting: None,
        rates: crate::conn::ClientRateSettings::default(),
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
