//! A primary that sentinels name, replace, and promise to replace.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use fred::prelude::Server;
use tokio::time::{sleep, timeout};

use super::{healthy, process};
use crate::{
    broker::redis::{
        discovery::{destination::Destination, sentinel::follow},
        net::memory::{MemoryNetwork, MemoryServer, text, texts},
        task::Task,
    },
    limits::{
        REDIS_CONNECT_DEADLINE, SENTINEL_INTERVAL, TAKEOVER_LOOK_MAX, TAKEOVER_LOOK_PAUSE,
        TAKEOVER_WAIT,
    },
};

const MOMENT: Duration = Duration::from_millis(2);

/// Sentinels, and what each says: the epoch and the primary's number.
struct World {
    network: MemoryNetwork,
    says: Vec<Rc<Cell<(u64, u8)>>>,
    sentinels: Vec<Rc<MemoryServer>>,
    destination: Arc<Destination>,
    _tasks: RefCell<Vec<Task>>,
}

fn host(number: u8) -> String {
    format!("10.0.0.{number}")
}

fn server(number: u8) -> Server {
    Server::from((host(number), 6379))
}

fn sentinel(says: &Cell<(u64, u8)>, words: &[&str]) -> String {
    let (epoch, primary) = says.get();
    match words {
        ["SENTINEL", "MASTER", ..] => texts(&["config-epoch", &epoch.to_string()]),
        ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", ..] => texts(&[&host(primary), "6379"]),
        // The other one of two.
        _ => format!("*1\r\n{}", texts(&["ip", &host(3 - primary), "port", "6379"])),
    }
}

impl World {
    /// So many sentinels that all name the first server.
    fn new(sentinels: usize) -> Self {
        let network = MemoryNetwork::new();
        let says: Vec<_> = (0..sentinels).map(|_| Rc::new(Cell::new((1, 1)))).collect();
        let listen = |(number, says): (usize, &Rc<Cell<(u64, u8)>>)| {
            let says = says.clone();
            network.listen(&format!("s{number}:1"), move |words| sentinel(&says, words))
        };
        let sentinels = says.iter().enumerate().map(listen).collect();
        let url = "redis-sentinel://s0:1?node=s1:1&node=s2:1&sentinelServiceName=main";
        let destination = process(url, None).destination.clone();
        let tasks = RefCell::new(follow(&destination));
        Self { network, says, sentinels, destination, _tasks: tasks }
    }

    async fn is_replaced_within(&self, duration: Duration) -> bool {
        timeout(duration, self.destination.primary.replaced(&server(1))).await.is_ok()
    }

    /// Whether publishing waits for a takeover though Redis can be reached.
    fn holds_publishing(&self) -> bool {
        let destination = &self.destination;
        destination.primary.is_takeover_awaited(true, destination.clock.now())
    }
}

/// A failover is known as soon as sentinels tell of it, or else when they are asked again.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_failover_is_known_at_once_or_when_asked() {
    for is_told in [true, false] {
        let world = World::new(3);
        let primary = timeout(MOMENT, world.destination.primary.wait_known()).await;
        assert_eq!(primary, Ok(server(1)));
        sleep(10 * SENTINEL_INTERVAL + SENTINEL_INTERVAL / 5).await;
        world.says[..2].iter().for_each(|says| says.set((2, 2)));
        for sentinel in &world.sentinels[..2] {
            let line = "main 10.0.0.1 6379 10.0.0.2 6379";
            assert!(!is_told || sentinel.publish("+switch-master", line) == 1);
        }
        assert_eq!(world.is_replaced_within(MOMENT).await, is_told);
        assert!(world.is_replaced_within(SENTINEL_INTERVAL).await, "it is asked for");
        assert_eq!(world.destination.primary.server(), Some(server(2)));
    }
}

/// One sentinel alone moves nobody, and a silent one is asked again once it answers.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_silent_sentinel_is_no_voice_until_it_is_back() {
    // The third of the URL is not there.
    let world = World::new(2);
    world.destination.primary.wait_known().await;
    world.sentinels[1].set_silent(true);
    world.says.iter().for_each(|says| says.set((2, 2)));
    let opened = world.sentinels[1].opened();
    assert!(!world.is_replaced_within(REDIS_CONNECT_DEADLINE / 2).await, "one of three");
    assert_eq!(world.sentinels[1].opened(), opened, "it has time to answer");
    assert!(!world.is_replaced_within(10 * REDIS_CONNECT_DEADLINE).await);
    assert!(world.sentinels[1].opened() > opened, "it is tried anew");
    world.sentinels[1].set_silent(false);
    assert!(world.is_replaced_within(SENTINEL_INTERVAL + MOMENT).await);
}

/// Publishing waits from the choice of a replica on, which is the primary once it says so.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_chosen_replica_is_followed_when_it_is_ready() {
    let world = World::new(3);
    let is_promoted = Rc::new(Cell::new(false));
    let promoted = is_promoted.clone();
    world.network.listen("10.0.0.2:6379", move |words| match words[0] {
        "ROLE" if !promoted.get() => format!("*1\r\n{}", text("slave")),
        _ => healthy(words),
    });
    world.destination.primary.wait_known().await;
    sleep(MOMENT).await;
    assert!(!world.holds_publishing());
    world.sentinels[0].publish("+selected-slave", "slave r 10.0.0.2 6379 @ main 10.0.0.1 6379");
    sleep(MOMENT).await;
    assert!(world.holds_publishing());
    assert!(!world.is_replaced_within(TAKEOVER_WAIT / 2).await, "it is a replica yet");
    is_promoted.set(true);
    assert!(world.is_replaced_within(TAKEOVER_LOOK_PAUSE + MOMENT).await);
    assert_eq!(world.destination.primary.server(), Some(server(2)), "the sentinels say the first");
}

/// A takeover that never comes holds up publishing for its time, and not again and again.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_takeover_that_never_comes_holds_publishing_once() {
    let world = World::new(3);
    world.network.listen("10.0.0.2:6379", |words| match words[0] {
        "ROLE" => format!("*1\r\n{}", text("slave")),
        _ => healthy(words),
    });
    world.destination.primary.wait_known().await;
    sleep(MOMENT).await;
    let line = "slave r 10.0.0.2 6379 @ main 10.0.0.1 6379";
    let choose = || world.sentinels[0].publish("+selected-slave", line);
    choose();
    sleep(TAKEOVER_WAIT - MOMENT).await;
    assert!(world.holds_publishing());
    sleep(2 * MOMENT).await;
    assert!(!world.holds_publishing());
    choose();
    sleep(MOMENT).await;
    assert!(!world.holds_publishing(), "that is known");
    sleep(TAKEOVER_LOOK_MAX).await;
    choose();
    sleep(MOMENT).await;
    assert!(world.holds_publishing(), "another one");
    assert_eq!(world.destination.primary.server(), Some(server(1)));
}
