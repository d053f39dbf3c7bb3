//! The slot map of a cluster: how often it is read, and from which node.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use fred::prelude::Server;
use tokio::time::{sleep, timeout};

use super::process;
use crate::{
    broker::redis::{
        discovery::{
            destination::Destination, hints::TopologyHints, slot_map::SlotMap,
            slot_map_refresh::SlotMapRefresher,
        },
        net::memory::{MemoryNetwork, MemoryServer, text},
        task::Task,
    },
    limits::{REDIS_CONNECT_DEADLINE, SLOT_MAP_INTERVAL, SLOT_MAP_PAUSE},
};

const MOMENT: Duration = Duration::from_millis(2);
const LONG: Duration = SLOT_MAP_INTERVAL.saturating_mul(60);

/// A cluster of two nodes that both tell the same map: which one has all slots.
struct World {
    owner: Rc<Cell<&'static str>>,
    reads: Rc<Cell<u32>>,
    nodes: Vec<Rc<MemoryServer>>,
    hints: Arc<TopologyHints>,
    _destination: Arc<Destination>,
    _network: MemoryNetwork,
    _task: Task,
}

impl World {
    /// The first node is asked before the second.
    fn new(is_first_silent: bool) -> Self {
        let network = MemoryNetwork::new();
        let (owner, reads) = (Rc::new(Cell::new("n1")), Rc::new(Cell::new(0)));
        let node = |name: &str| {
            let (owner, reads) = (owner.clone(), reads.clone());
            network.listen(&format!("{name}:1"), move |words| match words {
                ["CLUSTER", "SLOTS"] => {
                    reads.set(reads.get() + 1);
                    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{}:1\r\n", text(owner.get()))
                }
                _ => text("cluster_state:ok"),
            })
        };
        let nodes = vec![node("n1"), node("n2")];
        nodes[0].set_silent(is_first_silent);
        let destination = process("redis-cluster://n1:1?node=n2:1", None).destination.clone();
        let hints = destination.hints.clone().expect("it is a cluster");
        let is_last = |server: &Server| *server.host == *"n2";
        let refresher = SlotMapRefresher::new(destination.clone(), hints.clone(), is_last);
        let task = Task::spawn(refresher.run());
        Self {
            owner,
            reads,
            nodes,
            hints,
            _destination: destination,
            _network: network,
            _task: task,
        }
    }

    /// Whether `owner` has the slots before long.
    async fn is_known(&self, owner: &str, within: Duration) -> bool {
        let mut maps = self.hints.maps();
        let is_it = |map: &Option<Arc<SlotMap>>| {
            map.as_ref().is_some_and(|map| map.owner(7).is_some_and(|it| *it.host == *owner))
        };
        timeout(within, maps.wait_for(is_it)).await.is_ok_and(|map| map.is_ok())
    }
}

/// The map is read once in a second without a reason, and a hint has it read at once.
#[tokio::test(flavor = "local", start_paused = true)]
async fn the_map_is_read_now_and_then_and_when_hinted() {
    let world = World::new(false);
    assert!(world.is_known("n1", MOMENT).await, "at the beginning");
    sleep(LONG).await;
    let least = LONG.div_duration_f64(SLOT_MAP_INTERVAL + SLOT_MAP_PAUSE.mul_f64(1.5)) as u32;
    assert!((least..=60).contains(&world.reads.get()), "{}", world.reads.get());

    // After the pause that follows a reading.
    sleep(2 * SLOT_MAP_PAUSE).await;
    world.owner.set("n2");
    world.hints.request_refresh();
    assert!(world.is_known("n2", SLOT_MAP_PAUSE.mul_f64(1.5) + MOMENT).await);
    world.owner.set("n1");
    assert!(!world.is_known("n1", SLOT_MAP_PAUSE).await, "nobody has said so");
    assert!(world.is_known("n1", SLOT_MAP_INTERVAL + SLOT_MAP_PAUSE).await, "but time passes");
}

/// However many hints there are, there is a pause between two readings.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_storm_of_hints_has_pauses() {
    let world = World::new(false);
    let seconds = 10;
    for _ in 0..seconds * 1_000 {
        world.hints.request_refresh();
        sleep(Duration::from_millis(1)).await;
    }
    let most = seconds * 1_000 / u32::try_from(SLOT_MAP_PAUSE.as_millis()).unwrap() + 1;
    let reads = world.reads.get();
    assert!((most / 2..=most).contains(&reads), "{reads}");
}

/// A node that is silent holds up a reading for no longer than a connection may take.
#[tokio::test(flavor = "local", start_paused = true)]
async fn another_node_is_asked_in_time() {
    let world = World::new(true);
    assert!(!world.is_known("n1", REDIS_CONNECT_DEADLINE - MOMENT).await);
    assert!(world.is_known("n1", 2 * MOMENT).await);
    assert_eq!((world.nodes[0].opened(), world.nodes[1].opened()), (1, 1));
}
