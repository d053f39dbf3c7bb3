//! A server whose threads run: it serves, or, as long as its gates are closed, waits to be told to.

use std::{future, io, rc::Rc, sync::Arc, thread};

use tokio::{sync::mpsc, time::timeout};
use tracing::info;

#[cfg(target_os = "linux")]
use super::giving::{self, Handed, HandedListener};
use super::{
    End, Exit, Server, StartError,
    acceptor::{AdminIntake, HandOut},
    coordinator::{Coordinator, Inputs},
    death::{self, Death},
    notice,
    orders::Orders,
    presence,
    process::Process,
    ready,
    reload::Reloads,
    settings,
    shard_watch::ShardWatch,
    signals::Signals,
    stand_in,
    supervision::{self, Milestones, Supervised},
    unix_socket::UnixSocket,
    upgrade_signal::UpgradeSignal,
    upgrading::{ControlSocket, Upgrading},
};
use crate::{
    broker::{self, Broker, HandleOwner, Reach},
    http,
    limits::{BROKER_EXIT_WAIT, FORCED_EXIT_DEADLINE, ORDERS_WAITING_MAX},
    metrics::Placed,
    shard::{
        self, Setup,
        gate::Gate,
        handover::{Order, Part},
        listener::{Entrance, Entrances, PublicListener, Transport},
    },
};
#[cfg(target_os = "linux")]
use crate::{
    drain::DrainRecord,
    handover::{Link, Turns},
};
#[cfg(target_os = "linux")]
use futures_util::future::{FutureExt as _, LocalBoxFuture};

/// A server whose threads run.
pub(super) struct Running {
    server: Server,
    broker: Rc<dyn Broker>,
    milestones: Rc<Milestones>,
    reloads: Reloads,
    deaths: mpsc::Receiver<Death>,
    ends: mpsc::Receiver<()>,
    /// To the shards.
    orders: Orders,
    /// The control thread's.
    gate: Rc<Gate>,
    /// For a process that takes over.
    #[cfg(target_os = "linux")]
    listeners: Rc<[HandedListener]>,
    /// Where there is an admin listener.
    admin: Option<Rc<AdminIntake>>,
    /// The end of the process that this one has replaced.
    #[cfg(target_os = "linux")]
    pub(super) old_ended: Option<LocalBoxFuture<'static, ()>>,
}

/// When a server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// As soon as its threads run.
    AtOnce,
    /// Once another process has given up all that it takes over.
    Later,
}

impl Server {
    /// Starts all threads and tasks.
    pub(super) async fn start(mut self, start: Start) -> Result<Running, StartError> {
        let (deaths, deaths_seen) = mpsc::channel(self.config.threads);
        let (ended, ends) = mpsc::channel(self.config.threads);
        let gate = Rc::new(Gate::default());
        if start == Start::Later {
            gate.close();
        }
        #[cfg(target_os = "linux")]
        let listeners = match (&self.config.control_socket, start) {
            (None, Start::AtOnce) => Rc::default(),
            _ => giving::listeners(&self.listeners, &self.unix)?,
        };
        let duplicates = stand_in::duplicates(&self.listeners.by_shard)?;
        let mut orders = Vec::new();
        for index in 0..self.config.threads {
            orders.push(self.start_shard(index, start, deaths.clone(), ended.clone())?);
        }
        let reloads = self.process.reloads(&self.config);
        let milestones = Rc::new(Milestones::default());
        if self.service_manager.has_manager() {
            let supervised = self.supervised(milestones.clone(), reloads.clone());
            tokio::task::spawn_local(supervision::run(supervised));
        }
        let broker = broker::connect(self.process.broker.clone(), HandleOwner::Control).await;
        self.start_control_tasks(&broker, &gate);
        let admin = self.serve_admin(&gate, &broker)?;
        let hand_out = HandOut {
            gate: gate.clone(),
            placement: self.placement.clone(),
            clock: self.process.clock,
        };
        self.accept_for_shards(&hand_out)?;
        if !duplicates.is_empty() {
            let watch = stand_in::watch(duplicates, hand_out, self.process.control.clone());
            tokio::task::spawn_local(watch);
        }
        Ok(Running {
            server: self,
            broker,
            milestones,
            reloads,
            deaths: deaths_seen,
            ends,
            orders: Orders::new(orders),
            gate,
            admin,
            #[cfg(target_os = "linux")]
            listeners,
            #[cfg(target_os = "linux")]
            old_ended: None,
        })
    }

    fn supervised(&self, milestones: Rc<Milestones>, reloads: Reloads) -> Supervised {
        Supervised {
            notifier: self.service_manager.clone(),
            milestones,
            clock: self.process.clock,
            control: self.process.control.clone(),
            health: self.process.broker.health(),
            placement: self.placement.clone(),
            shards: self.config.threads,
            reloads,
            is_successor: self.config.take_over.is_some(),
        }
    }

    fn start_shard(
        &mut self,
        index: usize,
        start: Start,
        deaths: mpsc::Sender<Death>,
        ended: mpsc::Sender<()>,
    ) -> io::Result<mpsc::Sender<Order>> {
        let (orders, ordered) = mpsc::channel(ORDERS_WAITING_MAX);
        let process = self.process.clone();
        let listeners = self.listeners.addresses.len() + self.unix.len();
        let setup = Setup {
            clock: process.clock,
            index,
            shards: self.config.threads,
            listeners: std::mem::take(&mut self.listeners.by_shard[index]),
            mailbox: self.mailboxes[index].clone(),
            placement: self.placement.clone(),
            entrances: self.entrances().into(),
            broker: process.broker.clone(),
            sinks: process.sinks.clone(),
            control: process.control.clone(),
            metrics: process.shards[index].clone(),
            budget: process.budget.clone(),
            address_limits: process.address_limits.clone(),
            audience: process.audience.clone(),
            tls: self.tls.clone(),
            verifier: process.verifier.clone(),
            orders: ordered,
            is_successor: start == Start::Later,
            settings: settings::shard(&self.config, listeners, process.shares, &process.api_tokens),
            sources: Arc::new(move || process.sources()),
        };
        thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            // Dropped no matter how this thread ends.
            let _ended = ended;
            death::watch_this_thread(index, deaths.clone());
            if let Err(error) = shard::run(setup) {
                let cause = error.to_string();
                // Full: the control thread knows of a death already.
                let _ = deaths.try_send(Death { shard: index, cause });
            }
        })?;
        Ok(orders)
    }

    fn start_control_tasks(&mut self, broker: &Rc<dyn Broker>, gate: &Rc<Gate>) {
        if let Some(interval) = self.config.notify.interval {
            let metrics = self.process.shards[0].clone();
            let (clock, text) = (self.process.clock, self.config.notify.text.clone());
            let (gate, broker) = (gate.clone(), broker.clone());
            tokio::task::spawn_local(async move {
                gate.through(notice::run(clock, broker, metrics, interval, text)).await;
            });
        }
        if self.process.broker.health().reach() != Reach::Embedded {
            let control = self.process.control.clone();
            tokio::task::spawn_local(presence::run(broker.clone(), control));
        }
        if let Some(certificates) = &self.process.certificates {
            certificates.warn_of_ends(self.process.clock.unix_time());
            tokio::task::spawn_local(certificates.clone().watch(self.process.clock));
        }
    }

    fn serve_admin(
        &mut self,
        gate: &Rc<Gate>,
        broker: &Rc<dyn Broker>,
    ) -> io::Result<Option<Rc<AdminIntake>>> {
        let Some(admin) = self.listeners.admin.take() else { return Ok(None) };
        info!("admin listening on {}", admin.local_addr()?);
        let listener = tokio::net::TcpListener::from_std(admin)?;
        let context = Rc::new(self.process.admin_context(&self.config, broker.clone()));
        let counted = self.process.shards[0].clone();
        let places = http::Places::new(self.process.clock, self.process.shares.admin, 1, counted);
        let intake = AdminIntake::new(gate.clone(), places, context);
        tokio::task::spawn_local(intake.clone().serve(listener));
        Ok(Some(intake))
    }

    fn accept_for_shards(&mut self, hand_out: &HandOut) -> io::Result<()> {
        for PublicListener { socket, entrance } in self.listeners.accepted_here.drain(..) {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::task::spawn_local(hand_out.clone().tcp(listener, entrance, Placed::Acceptor));
        }
        for (socket, listener) in self.unix.iter().zip(self.listeners.addresses.len()..) {
            let entrance = Entrance { listener, transport: Transport::Plain };
            tokio::task::spawn_local(hand_out.clone().unix(socket.watched()?, entrance));
        }
        Ok(())
    }

    /// The public listeners, in the order of their numbers.
    fn entrances(&self) -> Entrances {
        let addresses = self.listeners.addresses.iter();
        let tcp = addresses.map(|(address, transport)| (*transport, address.to_string()));
        let unix = self.unix.iter();
        let unix =
            unix.map(|one| (Transport::Plain, format!("unix:{}", one.path().to_string_lossy())));
        Entrances::new(tcp.chain(unix))
    }
}

impl Running {
    /// Another process' drain goes on here.
    #[cfg(target_os = "linux")]
    pub(super) fn continue_drain(&self, record: &DrainRecord) {
        let Process { control, clock, .. } = &*self.server.process;
        control.go_on(self.server.config.drain, record, clock.now());
    }

    /// Serves from here on.
    pub(super) fn begin(&mut self) {
        self.server.unix.iter_mut().for_each(UnixSocket::claim);
        self.orders.give_all(|| Order::Begin);
        self.gate.open();
        if let Some(admin) = &self.admin {
            admin.resume();
        }
    }

    /// Takes connections of another process' admin listener. Without one here they end.
    ///
    /// # Errors
    /// When that is none of these: a sentence's end, in lower case.
    #[cfg(target_os = "linux")]
    pub(super) fn take_admin(&self, part: Part) -> Result<(), String> {
        for (record, stream) in part.into_http()? {
            if let Some(admin) = &self.admin {
                admin.restore(&record, stream);
            }
        }
        Ok(())
    }

    /// To the shards.
    pub(super) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// The process' state.
    pub(super) fn process(&self) -> &Arc<Process> {
        &self.server.process
    }

    /// Gives the old process, at the other end of `link`, what its clients get, from this moment
    /// on. Resolves when nothing of that process is left.
    #[cfg(target_os = "linux")]
    pub(super) fn accompany(&self, link: Link) -> LocalBoxFuture<'static, ()> {
        match &self.server.followed {
            Some(followed) => followed.clone().by(link).boxed_local(),
            None => async move { link.disturbed().await }.boxed_local(),
        }
    }

    /// The wait for a process that takes over.
    #[cfg(target_os = "linux")]
    fn upgrading(&mut self, socket: ControlSocket) -> (Upgrading, UpgradeSignal) {
        let server = Handed {
            process: self.server.process.clone(),
            listeners: self.listeners.clone(),
            orders: self.orders.clone(),
            gate: self.gate.clone(),
            admin: self.admin.clone(),
            letting_go: Rc::default(),
        };
        let program = self.server.program.take();
        let turns = Turns::default();
        if let (Some(old_ended), Some(turn)) = (self.old_ended.take(), turns.take()) {
            tokio::task::spawn_local(async move {
                old_ended.await;
                drop(turn);
            });
        }
        Upgrading::new(socket, server, program, self.server.service_manager.clone(), turns)
    }

    #[cfg(not(target_os = "linux"))]
    fn upgrading(&mut self, socket: ControlSocket) -> (Upgrading, UpgradeSignal) {
        match socket {}
    }

    /// Serves until drained, or until another process has taken its place.
    pub(super) async fn serve(
        mut self,
        signals: Signals,
        control_socket: Option<ControlSocket>,
    ) -> Result<Exit, StartError> {
        ready::say(&self.server, self.milestones.clone());
        let (upgrading, upgrades) = match control_socket {
            Some(socket) => {
                let (upgrading, signal) = self.upgrading(socket);
                (Some(upgrading), signal)
            }
            None => (None, UpgradeSignal::default()),
        };
        let Self { mut server, broker, milestones, reloads, deaths, mut ends, gate, .. } = self;
        let Process { clock, control, shards, .. } = &*server.process;
        let shards = ShardWatch::new(shards);
        let inputs =
            Inputs { signals, deaths, reloads, upgrades, shards, milestones: milestones.clone() };
        let drain = server.config.drain;
        let mut coordinator = Coordinator::new(*clock, control.clone(), drain, inputs);
        let replaced = async {
            match upgrading {
                Some(upgrading) => upgrading.run().await,
                None => future::pending().await,
            }
        };
        let end = tokio::select! {
            end = gate.through(coordinator.run()) => Ok(end),
            replaced = replaced => Err(replaced),
        };
        let end = match end {
            Ok(end) => end,
            Err(replaced) => {
                server.unix.iter_mut().for_each(UnixSocket::hand_on);
                milestones.is_over();
                match replaced.finish(&mut coordinator, drain.close_over).await {
                    Some(end) => end,
                    None => {
                        let _ = timeout(BROKER_EXIT_WAIT, broker.close()).await;
                        return Ok(Exit::HandedOver);
                    }
                }
            }
        };
        if end == End::AtOnce {
            return Ok(Exit::CutOff);
        }
        let all_ended = async { while ends.recv().await.is_some() {} };
        let in_time = tokio::select! {
            in_time = timeout(FORCED_EXIT_DEADLINE, all_ended) => in_time.is_ok(),
            () = coordinator.third_signal() => return Ok(Exit::CutOff),
        };
        let _ = timeout(BROKER_EXIT_WAIT, broker.close()).await;
        let end = if coordinator.has_seen_death() { End::ShardDied } else { end };
        Ok(end.exit(in_time, control.barrier.cut_off()))
    }
}
