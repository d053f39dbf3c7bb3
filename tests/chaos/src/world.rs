//! Everything that runs: Redis, the way to it, servers, and the threads of clients and
//! publishers.
//!
//! The thread that owns a world starts all children: the kernel ends them when that thread does,
//! however it ends.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use rustix::process::Signal;
use testkit::{
    node::{Node, free_address, server_binary, words},
    wait::wait_for,
};
use tokio::sync::watch;

use super::{
    args::Args,
    client::{self, Order},
    held::Held,
    proxy::{self, Way},
    publisher::{self, Press},
    redis::Redis,
    shared::Shared,
};

const START_DEADLINE: Duration = Duration::from_secs(30);
/// Clients leave a server that drains evenly over this long.
const CLOSE_OVER: Duration = Duration::from_secs(3);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
const DRAIN_GRACE: Duration = Duration::from_secs(20);
/// For all clients to be connected at the start.
const CONNECT_DEADLINE: Duration = Duration::from_secs(120);
/// For publishers to get their last answers.
const PUBLISHERS_DEADLINE: Duration = Duration::from_secs(60);

/// See the module. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    pub(super) servers: Vec<Node>,
    pub(super) redis: Redis,
    pub(super) way: watch::Sender<Way>,
    pub(super) random: Rng,
    orders: watch::Sender<Order>,
    press: watch::Sender<Press>,
    clients: Option<JoinHandle<Result<Vec<Held>>>>,
    /// How drained servers ended, if not with 0.
    pub(super) bad_exits: Vec<String>,
}

impl World {
    /// Starts all, in order: Redis, the way to it, servers, a message on each channel, clients,
    /// publishers.
    pub(super) fn start(args: &Args, folder: &Path, seed: u64) -> Result<Self> {
        let mut random = Rng::with_seed(seed);
        let redis = Redis::start(args.redis, folder)?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("the proxy's port")?;
        listener.set_nonblocking(true).context("the proxy's port")?;
        let url = redis.url(listener.local_addr().context("the proxy's port")?);
        let servers = (0..args.servers)
            .map(|at| server(args, folder, at, &url, free_address()?))
            .collect::<Result<Vec<_>>>()?;
        let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
        let shared = Arc::new(Shared::new(&addresses, args.channels));
        let way = watch::Sender::new(Way::default());
        let mut world = Self {
            shared,
            servers,
            redis,
            way,
            orders: watch::Sender::new(Order::Stay),
            clients: None,
            press: watch::Sender::new(Press::Waits),
            bad_exits: Vec::new(),
            random: random.fork(),
        };
        world.start_publishers(listener, args.rate, seed)?;
        world.servers.iter_mut().try_for_each(Node::start)?;
        world.servers.iter_mut().try_for_each(|server| server.wait_until_ready(START_DEADLINE))?;
        publisher::one_each(&world.shared, false)?;
        world.start_clients(args, seed)?;
        let wanted = args.clients;
        wait_for("all clients to be connected", CONNECT_DEADLINE, || {
            Ok(world.shared.opened.load(Relaxed) >= wanted - wanted / 100)
        })?;
        world.press.send_replace(Press::Runs);
        Ok(world)
    }

    /// One thread for the proxy, and for publishers once there is publishing.
    fn start_publishers(
        &mut self,
        listener: std::net::TcpListener,
        rate: usize,
        seed: u64,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let (upstream, way) = (self.redis.nodes[0].address, self.way.subscribe());
        let press = self.press.subscribe();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            local.spawn_local(proxy::run(listener, upstream, way));
            local.spawn_local(async move { publisher::run(&shared, rate, seed, press).await });
            // Ends with the process.
            runtime.map(|runtime| runtime.block_on(local))
        };
        let thread = std::thread::Builder::new().name("publishers".to_owned()).spawn(run);
        thread.map(drop).context("the publishers' thread")
    }

    fn start_clients(&mut self, args: &Args, seed: u64) -> Result<()> {
        let (shared, orders) = (Arc::clone(&self.shared), self.orders.subscribe());
        let (clients, churn) = (args.clients, args.churn);
        let run = move || client::run(&shared, clients, churn, seed, &orders);
        let thread = std::thread::Builder::new().name("clients".to_owned()).spawn(run);
        self.clients = Some(thread.context("the clients' thread")?);
        Ok(())
    }

    pub(super) fn channels(&self) -> usize {
        self.shared.channels()
    }

    /// Ends a server without a chance to say anything.
    pub(super) fn kill_server(&mut self, at: usize) -> Result<()> {
        self.shared.doors[at].is_up.store(false, Relaxed);
        self.servers[at].kill();
        Ok(())
    }

    /// Asks a server to stop and waits until it has.
    pub(super) fn drain_server(&mut self, at: usize) -> Result<()> {
        let server = &mut self.servers[at];
        server.signal(Signal::TERM)?;
        self.shared.doors[at].is_up.store(false, Relaxed);
        let status = server.wait_for_end(DRAIN_TIMEOUT + DRAIN_GRACE)?;
        if status.code() != Some(0) {
            self.bad_exits.push(format!("{} drained with {status}", server.name));
        }
        Ok(())
    }

    /// Starts a server anew, and lets its share of the clients move there.
    pub(super) fn start_server(&mut self, at: usize) -> Result<()> {
        let server = &mut self.servers[at];
        server.start()?;
        server.wait_until_ready(START_DEADLINE)?;
        self.shared.doors[at].is_up.store(true, Relaxed);
        self.orders.send_replace(Order::Fill(at));
        Ok(())
    }

    /// An error if a server has died by itself.
    pub(super) fn check_servers(&mut self) -> Result<()> {
        for server in &mut self.servers {
            if let Some(status) = server.ended()? {
                bail!("{} died with {status}: {}", server.name, server.last_words());
            }
        }
        Ok(())
    }

    /// Ends publishing, with a last message on each channel.
    pub(super) fn stop_publishing(&mut self) -> Result<()> {
        self.press.send_replace(Press::IsOver);
        wait_for("publishers to get their last answers", PUBLISHERS_DEADLINE, || {
            Ok(self.shared.publishers.load(Relaxed) == 0)
        })?;
        publisher::one_each(&self.shared, true)
    }

    /// Lets all clients go, and returns what is to be judged.
    pub(super) fn stop_clients(&mut self) -> Result<Vec<Held>> {
        self.orders.send_replace(Order::Stop);
        let thread = self.clients.take().context("the clients run")?;
        match thread.join() {
            Ok(held) => held,
            Err(_) => bail!("the clients' thread panicked"),
        }
    }
}

fn server(args: &Args, folder: &Path, at: usize, url: &str, address: SocketAddr) -> Result<Node> {
    let binary = server_binary(args.server_binary.as_deref())?;
    let options = [
        ("--listen", address.to_string()),
        ("--threads", args.threads_per_server.to_string()),
        ("--redis-url", url.to_owned()),
        ("--notify-interval", "0".to_owned()),
        ("--drain-timeout", format!("{}ms", DRAIN_TIMEOUT.as_millis())),
        ("--drain-close-over", format!("{}ms", CLOSE_OVER.as_millis())),
        ("--log-level", args.log_level.clone()),
    ];
    Node::new(folder, &format!("server-{at}"), address, &binary, words(options))
}
