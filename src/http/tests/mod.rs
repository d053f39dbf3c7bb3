//! HTTP from outside: raw bytes in, raw bytes out, over memory or loopback sockets.
//!
//! The broker is a recording; what a test wants to see of the process it sees through the drain's
//! barrier and the counters, as everything else does.

mod client;
mod connection;
mod handshake;
mod memory;
mod messages;
mod ops;
mod places;
mod publish;
mod recorder;
mod settings;
mod sse;
mod suspension;
mod tokens;
mod unreadable;
mod whose;
mod wrong_tokens;

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use recorder::Recorder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Notify,
};

use self::messages::{body, handshake, header, read_answer, request, status};
use super::{
    Admission, BatchRoom, Context, Places, Public, Room, SubscribeRequest,
    driver::{Handed, run},
    owner::Owner,
    sources::{BrokerState, OpsPacer, Sources, Text},
};
use crate::{
    bans::Bans,
    broker::{Announcer, Position, Reach, RefusalExtent},
    channel::ChannelName,
    clock::Clock,
    drain::{Cause, Control, DrainSettings, Machine, Phase},
    metrics::ShardMetrics,
    token::{TokenSettings, Verifier, WaitingRoom},
};

thread_local! {
    /// The owner of connections from this machine, and how often it was asked for.
    pub(super) static OWNER: Cell<(Owner, usize)> = const { Cell::new((Owner::Us, 0)) };
}

impl super::Wire for DuplexStream {
    fn owner(&self) -> Owner {
        let (owner, asked) = OWNER.get();
        OWNER.set((owner, asked + 1));
        owner
    }

    fn poll_reset(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Pending
    }
}

pub(super) const LOCAL: &str = "127.0.0.1:50000";
pub(super) const ROOM: Room = Room { places: 20, spare: 2 };
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const FOREIGN: &str = "203.0.113.9:50000";

/// A listener's context and the other ends of it.
pub(crate) struct Fixture {
    pub(crate) context: Context,
    pub(super) broker: Rc<Recorder>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) control: Arc<Control>,
    /// Alive as often as there are admissions.
    pub(super) admissions: Rc<()>,
    /// Admission waits for it while held.
    pub(super) admit_gate: Rc<(Cell<bool>, Notify)>,
    /// The request of the last admission, and the positions that every one returns.
    pub(super) wanted: Rc<RefCell<Vec<SubscribeRequest>>>,
    pub(super) positions: Rc<RefCell<Vec<(ChannelName, Position)>>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let broker = Rc::new(Recorder::default());
        let metrics = Arc::new(ShardMetrics::default());
        // However long a test lets pass, this shard is not silent.
        metrics.beat_ms.set(u64::MAX);
        let control = Arc::new(Control::default());
        let clock = Clock::start();
        let admissions = Rc::new(());
        let admit_gate = Rc::new((Cell::new(false), Notify::new()));
        let wanted = Rc::new(RefCell::default());
        let positions = Rc::new(RefCell::<Vec<(ChannelName, Position)>>::default());
        let admit = {
            let (admissions, gate) = (admissions.clone(), admit_gate.clone());
            let (wanted, positions) = (wanted.clone(), positions.clone());
            move |asked: Vec<SubscribeRequest>, _| {
                *wanted.borrow_mut() = asked;
                let positions = positions.clone();
                let (admission, gate) = (admissions.clone(), gate.clone());
                async move {
                    if gate.0.get() {
                        gate.1.notified().await;
                    }
                    let positions = positions.borrow().clone();
                    Ok(Admission { ticket: Box::new(admission), positions })
                }
                .boxed_local()
            }
        };
        let context = Context {
            settings: settings::settings(),
            clock,
            verifier: Arc::new(Verifier::new(clock, &TokenSettings::default()).unwrap()),
            token_room: WaitingRoom::among(ROOM.places),
            control: control.clone(),
            ops: Sources {
                shards: vec![metrics.clone()],
                broker: Rc::new(|| BrokerState {
                    reach: Reach::Embedded,
                    refuses: RefusalExtent::Nothing,
                    shard_stalled: false,
                }),
                metrics_text: Text::new(clock, || "wsbcast_connections 0\n".into()),
                stats_json: Text::new(clock, || "{\"shards\":[]}\n".into()),
                pacer: OpsPacer::default(),
                version: "1.2.3 (abc)".into(),
            },
            announcer: Announcer::new(broker.clone(), Arc::new([]), Arc::new(Bans::new(clock))),
            public: Some(Public {
                broker: broker.clone(),
                admit: Rc::new(admit),
                metrics: metrics.clone(),
                batch_room: BatchRoom::default(),
                address_limits: Arc::default(),
                audience: Arc::default(),
            }),
        };
        Self { context, broker, metrics, control, admissions, admit_gate, wanted, positions }
    }

    /// With a change of the context.
    pub(super) fn with(change: impl FnOnce(&mut Context)) -> Self {
        let mut fixture = Self::new();
        change(&mut fixture.context);
        fixture
    }

    pub(super) fn start(self) -> Server {
        let Self { context, broker, metrics, control, admissions, admit_gate, wanted, positions } =
            self;
        let context = Rc::new(context);
        let places = Places::new(context.clock, ROOM, 1, metrics.clone());
        Server {
            places,
            context,
            broker,
            metrics,
            control,
            admissions,
            admit_gate,
            wanted,
            positions,
        }
    }
}

/// A fixture whose context is shared.
pub(super) struct Server {
    pub(super) places: Rc<Places>,
    pub(super) context: Rc<Context>,
    pub(super) broker: Rc<Recorder>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) control: Arc<Control>,
    pub(super) admissions: Rc<()>,
    pub(super) admit_gate: Rc<(Cell<bool>, Notify)>,
    pub(super) wanted: Rc<RefCell<Vec<SubscribeRequest>>>,
    pub(super) positions: Rc<RefCell<Vec<(ChannelName, Position)>>>,
}

impl Server {
    /// A connection from `peer`: what the server does with it, and the client's end.
    pub(super) fn connect(
        &self,
        peer: &str,
    ) -> (impl Future<Output = Option<Handed<DuplexStream>>> + use<>, DuplexStream) {
        self.connect_through(peer, 1 << 20)
    }

    /// The same with `bytes` of room in each direction.
    pub(super) fn connect_through(
        &self,
        peer: &str,
        bytes: usize,
    ) -> (impl Future<Output = Option<Handed<DuplexStream>>> + use<>, DuplexStream) {
        let (ours, theirs) = duplex(bytes);
        let peer: SocketAddr = peer.parse().unwrap();
        let (place, context) = (self.places.enter(), self.context.clone());
        let serving =
            async move { run(ours, Bytes::new(), peer.into(), context, place.standing()).await };
        (serving, theirs)
    }

    /// Sends `request` as it is, shuts the sending side, and reads whatever comes back.
    pub(super) async fn ask_as(&self, peer: &str, request: impl AsRef<[u8]>) -> String {
        let (server, mut client) = self.connect(peer);
        let client = async {
            client.write_all(request.as_ref()).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let server = async { drop(server.await) };
        let ((), answer) = tokio::join!(server, client);
        answer
    }

    /// The same from this machine.
    pub(super) async fn ask(&self, request: impl AsRef<[u8]>) -> String {
        self.ask_as(LOCAL, request).await
    }

    /// The drain is taken back.
    pub(super) fn serve_again(&self) {
        let none = Duration::ZERO;
        let settings = DrainSettings { pre_delay: none, timeout: none, close_over: none };
        self.control.publish(&Machine::new(settings), Phase::Serving);
    }

    pub(super) fn enter(&self, phase: Phase) {
        let settings = DrainSettings {
            pre_delay: Duration::ZERO,
            timeout: Duration::from_secs(60),
            close_over: Duration::ZERO,
        };
        let mut machine = Machine::new(settings);
        let now = self.context.clock.now();
        machine.start(now, Cause::Admin);
        self.control.publish(&machine, phase);
    }
}

/// Lets everything that can run, run.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Nothing is said before admission; a drain that begins meanwhile still refuses `request`, and
/// nothing of it is left.
pub(super) async fn refused_by_a_drain_during_admission(request: &str) {
    let server = Fixture::new().start();
    server.admit_gate.0.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut serving = Box::pin(serving);
    assert!((&mut serving).now_or_never().is_none());
    assert_eq!(server.control.barrier.clients(), 1);
    let mut byte = [0];
    assert!(client.read(&mut byte).now_or_never().is_none(), "an answer before admission");
    server.enter(Phase::Waiting);
    server.admit_gate.1.notify_one();
    let asking = async {
        assert_eq!(status(&read_answer(&mut client).await), 503);
        drop(client);
    };
    let (handed, ()) = tokio::join!(serving, asking);
    assert!(handed.is_none());
    assert_eq!(server.control.barrier.clients(), 0);
    assert_eq!(Rc::strong_count(&server.admissions), 2);
}
