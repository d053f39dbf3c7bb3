//! One shard: a thread, a runtime, a hub; a complete server that would work alone.
//!
//! It accepts on its own sockets, speaks HTTP, keeps the clients, takes publications from its
//! mailbox and moves them out in passes. Other threads reach it only through the mailbox, the
//! placement of connections and the phase of the drain. All it knows of other shards is that they
//! take connections off it.

pub mod accept;
mod admit;
mod ahead;
mod core;
pub mod gate;
pub mod handover;
mod handshake_pacer;
mod intake;
mod join_limiter;
pub mod listener;
pub mod mailbox;
pub mod placement;
mod proxy_header;
mod requests;
mod run_queue;
mod slices;
mod stream;
mod tasks;
#[cfg(test)]
mod tests;

use std::{io, rc::Rc, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use crate::{
    admission::AddressLimits,
    broker::{self, Announcer, HandleOwner, Sink},
    clock::Clock,
    conn::{self, ConnectionTable, socket::Poller},
    drain::{Control, PaceShare, Phase},
    http,
    hub::{self, Audience, Budget, Hub},
    limits::{BROKER_EXIT_WAIT, FORCED_EXIT_DEADLINE, HOLDERS_INTERVAL, RESTART_RETRY_MAX},
    metrics::ShardMetrics,
    tls::ServerConfig,
    token::{Verifier, WaitingRoom},
};
use core::Core;
use handover::{Order, Shift};
use intake::{ConnectionIntake, Ways};
use listener::{Entrances, PublicListener};
use mailbox::Mailbox;
use placement::Placement;
use slices::in_slices;
use stream::TlsAcceptor;

/// All that a shard needs; made on another thread.
pub struct Setup {
    /// The server's clock.
    pub clock: Clock,
    /// Its place among the shards.
    pub index: usize,
    /// How many there are.
    pub shards: usize,
    /// Its own listening sockets; none where one thread accepts for all.
    pub listeners: Vec<PublicListener>,
    /// Its mailbox.
    pub mailbox: Arc<Mailbox>,
    /// Which shard serves which connection.
    pub placement: Arc<Placement>,
    /// The public listeners, which connections of another process have come through, too.
    pub entrances: Arc<Entrances>,
    /// The broker of the process.
    pub broker: Arc<broker::Shared>,
    /// The mailboxes of all shards.
    pub sinks: Arc<[Arc<dyn Sink>]>,
    /// The drain.
    pub control: Arc<Control>,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// The process's memory for backlogs.
    pub budget: Arc<Budget>,
    /// The use that addresses make of the process.
    pub address_limits: Arc<AddressLimits>,
    /// The clients of each channel, of all shards.
    pub audience: Arc<Audience>,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Makes the sources of the ops routes on the shard's thread.
    pub sources: Arc<dyn Fn() -> http::sources::Sources + Send + Sync>,
    /// The settings of TLS, if there are certificates.
    pub tls: Option<Arc<ServerConfig>>,
    /// Orders of a hand-over.
    pub orders: mpsc::Receiver<Order>,
    /// It serves when an order says so, and not before.
    pub is_successor: bool,
    /// The options.
    pub settings: ShardSettings,
}

/// The options about shards.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Logs.
    pub hub: hub::HubSettings,
    /// Clients.
    pub clients: conn::ClientSettings,
    /// HTTP.
    pub http: http::HttpSettings,
    /// HTTP connections at a time.
    pub http_room: http::Room,
    /// The public listeners that share these places.
    pub listeners: usize,
    /// Least pause between two passes over the clients.
    pub coalesce: Duration,
}

/// Why a shard ended other than by the drain.
#[derive(Debug, Error)]
pub enum ShardError {
    /// The system gave it no runtime or no epoll set.
    #[error("could not start: {0}")]
    Start(#[source] io::Error),
    /// A loop that must run ended.
    #[error("its {0} loop ended")]
    Loop(&'static str),
}

/// Runs a shard on the calling thread until the drain has stopped.
///
/// # Errors
/// When it can't start, or one of its loops ends.
pub fn run(setup: Setup) -> Result<(), ShardError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(ShardError::Start)?;
    runtime.block_on(serve(setup))
}

async fn serve(setup: Setup) -> Result<(), ShardError> {
    let Setup { index, shards, listeners, mailbox, broker, control, metrics, budget, .. } = setup;
    let (clock, placement, settings) = (setup.clock, setup.placement, setup.settings);
    let (poller, registry) = Poller::new().map_err(ShardError::Start)?;
    placement.runs_here(index);
    let broker = broker::connect(broker, HandleOwner::Shard(index)).await;
    let places = http::Places::new(clock, settings.http_room, settings.listeners, metrics.clone());
    let clients = ConnectionTable::new(
        Hub::new(settings.hub, budget.clone()).counting(setup.audience.clone()),
        registry,
        settings.clients,
        budget,
        control.clone(),
        metrics.clone(),
        clock.now(),
    );
    let core = Core::new(
        clock,
        clients.counting_guesses(setup.address_limits.clone()),
        broker.clone(),
        mailbox,
        metrics.clone(),
        setup.verifier.clone(),
        requests::carry_out,
    );
    let limits = setup.address_limits.clone();
    let context = Rc::new(http::Context {
        settings: settings.http,
        clock,
        verifier: setup.verifier.clone(),
        token_room: WaitingRoom::among(settings.http_room.places),
        control: control.clone(),
        ops: (setup.sources)(),
        announcer: Announcer::new(broker.clone(), setup.sinks, setup.verifier.bans().clone()),
        public: Some(http::Public {
            broker: broker.clone(),
            admit: admit::admission(&core),
            metrics: metrics.clone(),
            batch_room: http::BatchRoom::default(),
            address_limits: setup.address_limits,
            audience: setup.audience,
        }),
    });

    let mut loops = JoinSet::new();
    let tls = setup.tls.map(|config| TlsAcceptor::new(config, metrics.clone(), limits, clock));
    if setup.is_successor {
        core.close_entrance();
        core.output.close();
    }
    let ways = Ways { placement: placement.clone(), index, entrances: setup.entrances };
    let intake = ConnectionIntake::new(core.clone(), context, places, tls, ways);
    for PublicListener { socket, entrance } in listeners {
        let listener = stream::Listener::new(socket).map_err(ShardError::Start)?;
        loops.spawn_local(accept::accept(intake.clone(), listener, entrance));
    }
    loops.spawn_local(accept::give_turns(intake.clone()));
    loops.spawn_local(accept::take_moved(intake.clone(), metrics.clone()));
    let shift = Shift::new(core.clone(), control.clone(), intake);
    loops.spawn_local(shift.run(setup.orders));
    loops.spawn_local(tasks::events(core.clone(), poller));
    loops.spawn_local(tasks::fan_out(core.clone(), metrics.clone(), settings.coalesce));
    loops.spawn_local(tasks::beat(core.clone(), metrics, placement, index));

    let ended = until_end(&core, &control, PaceShare { index, of: shards }, loops).await;
    // Leaving is the same whether Redis answers or not.
    let _ = timeout(BROKER_EXIT_WAIT, broker.close()).await;
    ended
}

/// Ends with the drain, when all clients are closed, or with a loop that must not end.
async fn until_end(
    core: &Rc<Core>,
    control: &Arc<Control>,
    share: PaceShare,
    mut loops: JoinSet<&'static str>,
) -> Result<(), ShardError> {
    tokio::select! {
        () = follow_drain(core, control, share) => {}
        Some(ended) = loops.join_next() => {
            return Err(ShardError::Loop(ended.unwrap_or("panicked")));
        }
    }
    close_remaining(core).await;
    Ok(())
}

/// Treats the clients as each phase requires; resolves when the process stops.
///
/// # Cancel safety
/// May be dropped with its shard: clients that it was closing are closed with all others.
async fn follow_drain(core: &Rc<Core>, control: &Arc<Control>, share: PaceShare) {
    let mut phases = control.watch();
    // Set where nothing has changed since.
    let mut entered = None;
    loop {
        core.output.opened().await;
        let phase = *phases.borrow_and_update();
        match phase {
            _ if entered == Some(phase) => {}
            // After a closing, too, that was called off, though it was never seen here.
            Phase::Serving | Phase::PreDelay | Phase::Waiting => {
                core.with(ConnectionTable::end_paced_close);
            }
            Phase::Closing => {
                // Clients that are closed first get what was accepted before, too.
                tasks::append_all(core);
                let now = core.clock.now();
                // None: it is being taken back, and the phase of that is on its way.
                if let Some((window, close_over)) = control.closing_window(now) {
                    let retry_max = close_over.min(RESTART_RETRY_MAX);
                    core.with(|clients| clients.begin_paced_close(now, window, retry_max, share));
                }
            }
            Phase::Stopped => return,
        }
        let changed = if phase >= Phase::Waiting {
            control.holders.tell(share.index, core.with(|clients| clients.longest_connected()));
            timeout(HOLDERS_INTERVAL, phases.changed()).await
        } else {
            Ok(phases.changed().await)
        };
        match changed {
            Ok(Ok(())) => entered = None,
            Ok(Err(_)) => return,
            Err(_) => entered = Some(phase),
        }
    }
}

/// Each remaining client gets 1001, and a moment to take it.
async fn close_remaining(core: &Rc<Core>) {
    core.output.opened().await;
    let patience = FORCED_EXIT_DEADLINE.mul_f32(0.6);
    let until = core.clock.now() + patience;
    let left = async {
        let mut left = core.with(|clients| clients.keys());
        in_slices(core, |clients, go| clients.close_some(&mut left, until, go)).await;
        while !core.with(|clients| clients.is_empty()) {
            core.emptied.notified().await;
        }
    };
    if timeout(patience, left).await.is_err() {
        let mut left = core.with(|clients| clients.keys());
        in_slices(core, |clients, go| clients.drop_some(&mut left, go)).await;
    }
}
