//! A shard whose drain is steered in any way, by seed: only a closing closes clients, and the last
//! one closes all that are left.

use std::{
    io::{ErrorKind, Read as _},
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{spawn_local, yield_now},
    time::advance,
};

use super::{core, embedded};
use crate::{
    channel::ChannelName,
    clock::Clock,
    conn::{Connected, Endpoint},
    drain::{Control, DrainSettings, Machine, PaceShare, Phase, Steering},
    hub::{Encoding, Key},
    limits::SHARD_BEAT_INTERVAL,
    seeds,
    shard::{core::Core, follow_drain},
};

const CLIENTS: usize = 12;
const SEEDS: u64 = 40;
/// For what the kernel delivers.
const PATIENCE: Duration = Duration::from_secs(20);
const SETTINGS: DrainSettings = DrainSettings {
    pre_delay: Duration::from_secs(1),
    timeout: Duration::from_secs(100),
    close_over: Duration::from_secs(20),
};

/// A shard with clients, and the machine that drains it.
struct World {
    clock: Clock,
    core: Rc<Core>,
    control: Arc<Control>,
    machine: Machine,
    peers: Vec<Peer>,
}

/// A client.
struct Peer {
    key: Key,
    /// Its own end.
    stream: TcpStream,
    is_closed: bool,
}

impl Peer {
    /// Waits for the Close, which the shard has sent.
    fn take_close(&mut self) {
        self.stream.set_nonblocking(false).unwrap();
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("the Close arrives");
        let mut payload = vec![0; usize::from(head[1])];
        self.stream.read_exact(&mut payload).expect("all of it");
        assert_eq!((head[0], &payload[..2]), (0x88, &1012_u16.to_be_bytes()[..]));
        self.stream.set_nonblocking(true).unwrap();
        self.is_closed = true;
    }

    /// But for the Close nothing is sent, and nothing ends before it.
    fn assert_nothing_else(&mut self) {
        match self.stream.read(&mut [0]) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok(bytes) => assert!(bytes == 0 && self.is_closed, "{bytes}: an end or a message"),
        }
    }
}

impl World {
    fn connect(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (connected, peer) = Connected::through(&listener, self.control.barrier.client());
        peer.set_nonblocking(true).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let (now, channel) = (self.clock.now(), [ChannelName::default_channel()]);
        let key = self.core.with(|clients| {
            let key = clients.admit(Endpoint::Ws, Encoding::Plain, &channel);
            clients.connect(key, connected, now);
            key
        });
        self.peers.push(Peer { key, stream: peer, is_closed: false });
    }

    /// How many have got their Close so far. The kernel may deliver late: the shard's state tells
    /// for which there is one to wait for.
    fn closed(&mut self) -> usize {
        let clients = self.core.clients.borrow();
        for peer in &mut self.peers {
            if !peer.is_closed && clients.has_sent_close(peer.key) {
                peer.take_close();
            }
            peer.assert_nothing_else();
        }
        self.peers.iter().filter(|peer| peer.is_closed).count()
    }

    /// One beat of the shard; what it closes, and the phase it knows.
    async fn beat(&mut self) -> (usize, Phase) {
        let (before, now) = (self.closed(), self.clock.now());
        let phase = self.machine.advance(now, 1);
        assert!(phase < Phase::Stopped, "no limit is as near as that");
        self.control.publish(&self.machine, phase);
        for _ in 0..10 {
            yield_now().await;
        }
        self.core.with(|clients| {
            clients.begin_tick(now);
            assert!(clients.work_off(&mut || true));
        });
        let closed = self.closed() - before;
        advance(SHARD_BEAT_INTERVAL).await;
        (closed, phase)
    }
}

fn any_wish(random: &mut fastrand::Rng) -> Steering {
    Steering {
        timeout: random.bool().then(|| Duration::from_secs(random.u64(60..200))),
        close_over: random.bool().then(|| Duration::from_secs(random.u64(40..60))),
        closes_now: random.u8(0..4) == 0,
    }
}

/// Returns how often something was closed, and how often a closing was called off.
async fn simulate(seed: u64) -> [u64; 2] {
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = Clock::start();
    let control = Arc::new(Control::default());
    let (_poller, core) = core(clock, embedded(clock).await, &control);
    let machine = Machine::new(SETTINGS);
    let mut world =
        World { clock, core: core.clone(), control: control.clone(), machine, peers: Vec::new() };
    (0..CLIENTS).for_each(|_| world.connect());
    spawn_local(async move {
        let share = PaceShare { index: 0, of: 1 };
        follow_drain(&core, &control, share).await;
    });
    let mut counts = [0; 2];
    for _ in 0..20 {
        let was_closing = world.control.phase() == Phase::Closing;
        match random.u8(0..6) {
            0 => drop(world.machine.take_back(clock.now(), true)),
            1..=3 => drop(world.machine.steer(clock.now(), &any_wish(&mut random))),
            _ => {}
        }
        for _ in 0..random.u8(1..20) {
            let (closed, phase) = world.beat().await;
            assert!(closed == 0 || phase == Phase::Closing, "{closed} closed while {phase:?}");
            counts[0] += closed as u64;
            counts[1] += u64::from(was_closing && phase < Phase::Closing);
        }
    }
    // After all of that the clients that are left are closed over the last window.
    let window = Some(Duration::from_secs(5));
    let last =
        Steering { timeout: Some(Duration::from_secs(60)), close_over: window, closes_now: true };
    world.machine.steer(clock.now(), &last).unwrap();
    for _ in 0..5_000 / SHARD_BEAT_INTERVAL.as_millis() {
        world.beat().await;
    }
    assert_eq!(world.closed(), CLIENTS);
    counts
}

#[test]
fn a_steered_shard_closes_only_while_it_is_closing() {
    let run = |seed| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true);
        let runtime = runtime.build_local(Default::default()).unwrap();
        runtime.block_on(simulate(seed))
    };
    if let Some([closed, called_off]) = seeds::run_all(SEEDS, run) {
        assert!(closed > SEEDS && called_off > SEEDS, "{closed} {called_off}");
    }
}
