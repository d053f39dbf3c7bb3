//! Shards that beat and fall silent on a paused clock, with real sockets.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
};

use tokio::{
    task::{JoinHandle, spawn_local},
    time::{advance, sleep, timeout},
};

use super::*;
use crate::{
    clock::Clock,
    metrics::ShardMetrics,
    shard::{
        listener::{Accepted, Entrance, Transport},
        placement::Placement,
    },
};

const BY_TLS: Entrance = Entrance { listener: 0, transport: Transport::Tls };

/// Longer than any silence that counts.
const LONG: std::time::Duration = SHARD_STALL_ACCEPT.saturating_mul(20);

/// Two shards that are watched.
struct World {
    clock: Clock,
    metrics: Vec<Arc<ShardMetrics>>,
    placement: Arc<Placement>,
    listeners: Vec<Vec<PublicListener>>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::start();
        let metrics: Vec<_> = (0..2).map(|_| Arc::new(ShardMetrics::default())).collect();
        let placement = Arc::new(Placement::new(&metrics, 10));
        let listen = |_| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            vec![PublicListener { socket, entrance: BY_TLS }]
        };
        let listeners: Vec<_> = (0..2).map(listen).collect();
        let duplicates = duplicates(&listeners).unwrap();
        let hand_out = HandOut { gate: Rc::default(), placement: placement.clone(), clock };
        spawn_local(watch(duplicates, hand_out, Arc::default()));
        Self { clock, metrics, placement, listeners }
    }

    /// `shard` beats until that is aborted.
    fn wake(&self, shard: usize) -> JoinHandle<()> {
        let (clock, metrics) = (self.clock, self.metrics[shard].clone());
        metrics.beat_ms.set(clock.now().0);
        spawn_local(async move {
            loop {
                sleep(SHARD_BEAT_INTERVAL).await;
                metrics.beat_ms.set(clock.now().0);
            }
        })
    }

    fn address(&self, shard: usize) -> SocketAddr {
        self.listeners[shard][0].socket.local_addr().unwrap()
    }

    /// Whether `shard` gets the connection from `peer` before long.
    async fn gets(&self, shard: usize, peer: &TcpStream) -> bool {
        let Ok(moved) = timeout(LONG, self.placement.moved(shard)).await else { return false };
        assert_eq!(moved.accepted.stream.peer_addr().unwrap(), peer.local_addr().unwrap());
        assert_eq!(moved.accepted.entrance, BY_TLS);
        assert_eq!(moved.why, Placed::Stalled);
        true
    }
}

/// Other shards take the connections of a shard while it is silent, and only then.
#[tokio::test(flavor = "local", start_paused = true)]
async fn only_a_silent_shard_loses_its_connections() {
    let world = World::new();
    let (_first, second) = (world.wake(0), world.wake(1));
    let early = TcpStream::connect(world.address(1)).unwrap();
    assert!(!world.gets(0, &early).await, "its shard beats, and will accept it");

    second.abort();
    let silent_since = world.clock.now();
    assert!(world.gets(0, &early).await, "it waits for no silent shard");
    let took = world.clock.now() - silent_since;
    let least = SHARD_STALL_ACCEPT - SHARD_BEAT_INTERVAL;
    assert!((least..=SHARD_STALL_ACCEPT + 2 * SHARD_BEAT_INTERVAL).contains(&took), "{took:?}");
    let next = TcpStream::connect(world.address(1)).unwrap();
    assert!(world.gets(0, &next).await, "nor does the next one");

    let second = world.wake(1);
    sleep(2 * SHARD_BEAT_INTERVAL).await;
    let late = TcpStream::connect(world.address(1)).unwrap();
    assert!(!world.gets(0, &late).await, "the shard is back");
    second.abort();
    assert!(world.gets(0, &late).await, "it has fallen silent again");
}

/// With no shard alive, connections wait in the kernel for the first one that is back.
#[tokio::test(flavor = "local", start_paused = true)]
async fn connections_wait_for_the_first_live_shard() {
    let world = World::new();
    let peer = TcpStream::connect(world.address(1)).unwrap();
    sleep(LONG).await;
    assert!(!world.gets(0, &peer).await && !world.gets(1, &peer).await);
    let _first = world.wake(0);
    assert!(world.gets(0, &peer).await);
}

/// The queue of a silent shard is taken back: a connection that was moved to a shard that then
/// falls silent goes on to another.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_silent_shards_queue_is_taken_back() {
    let world = World::new();
    let (first, second) = (world.wake(0), world.wake(1));
    world.metrics[0].connections.set(1);
    let peer = TcpStream::connect(world.address(0)).unwrap();
    let (stream, _) = world.listeners[0][0].socket.accept().unwrap();
    let accepted = Accepted { stream, entrance: BY_TLS };
    world.placement.place(accepted, Placed::Balance, world.clock.now());
    second.abort();
    assert!(world.gets(0, &peer).await);
    first.abort();
}

/// A process that was stopped, or a machine that slept: all are late, and the watcher, too.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_watcher_that_was_held_up_itself_judges_nobody() {
    let world = World::new();
    // The first beats before each look of the watcher, the second after it.
    sleep(SHARD_BEAT_INTERVAL * 4 / 5).await;
    let _first = world.wake(0);
    sleep(SHARD_BEAT_INTERVAL * 2 / 5).await;
    let _second = world.wake(1);
    let peer = TcpStream::connect(world.address(1)).unwrap();
    sleep(SHARD_BEAT_INTERVAL / 2).await;
    advance(LONG).await;
    assert!(!world.gets(0, &peer).await, "its shard is as late as everything");
}
