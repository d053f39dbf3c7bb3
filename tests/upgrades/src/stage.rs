//! The stage: a server in use. Redis, the server, its clients, publishers and requests.
//!
//! Everything that was done to it is judged at the end, when publishing has stopped and everybody
//! has had the time to get the rest.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use testkit::{
    clock, http::Connection, node::check_redis_server, redis::RedisServer, wait::wait_for,
};

use super::{
    args::{Broker, RunArgs},
    crowd::{Crowd, FAST, MAIN, Newcomers, Plan},
    publishers::{Press, Published, Publisher},
    report::Totals,
    requests::Requests,
    server::Server,
};

/// The first is that of the channel of all.
const PUBLISHERS: u32 = 4;
const CONNECT_DEADLINE: Duration = Duration::from_secs(180);
const FIRST_MESSAGE_DEADLINE: Duration = Duration::from_secs(30);
/// To see that it goes on, between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Of the messages that fill the histories.
const FILLER_BYTES: usize = 256 * 1024;
const FILLER_CHANNELS: usize = 40;

/// All of it. The fields are dropped in this order: Redis goes last.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) crowd: Crowd,
    newcomers: Option<Newcomers>,
    publishers: Vec<Publisher>,
    pub(crate) requests: Requests,
    pub(crate) server: Server,
    /// Numbers that publishers have used, once they have ended.
    sent: Vec<u32>,
    _redis: Option<RedisServer>,
}

impl Stage {
    /// Starts everything, and waits until all are served.
    pub(crate) fn start(args: &RunArgs, broker: Broker, folder: &Path) -> Result<Self> {
        let redis = match broker {
            Broker::Embedded => None,
            Broker::Redis => {
                check_redis_server()?;
                Some(RedisServer::start())
            }
        };
        let address = redis.as_ref().map(RedisServer::socket);
        let server = Server::start(args, address, folder, None)?;
        fill(server.address, args.history_mib)?;
        let fast_publishers = PUBLISHERS as usize - 1;
        let plan = Arc::new(Plan::new(args, server.address, fast_publishers));
        let crowd = Crowd::start(Arc::clone(&plan))?;
        crowd.wait_until_connected(args.clients, CONNECT_DEADLINE)?;
        let requests = Requests::open(server.address, args.requests)?;
        let publishers = (0..PUBLISHERS).map(|publisher| {
            Publisher::start(Press {
                address: server.address,
                run: plan.run,
                publisher,
                channel: if publisher == 0 { MAIN } else { FAST },
                size: if publisher == 0 { args.size } else { args.fast_size },
                rate: match publisher {
                    0 => args.rate as f64,
                    _ => args.fast_rate as f64 / fast_publishers as f64,
                },
            })
        });
        let publishers = publishers.collect::<Result<_>>()?;
        let newcomers = Some(Newcomers::start(plan, args.connect_rate)?);
        let stage = Self {
            crowd,
            newcomers,
            publishers,
            requests,
            server,
            sent: Vec::new(),
            _redis: redis,
        };
        stage.wait_until_it_delivers(FIRST_MESSAGE_DEADLINE)?;
        Ok(stage)
    }

    /// Waits for deliveries from now on, to those that stay and to one that comes.
    pub(crate) fn wait_until_it_delivers(&self, deadline: Duration) -> Result<()> {
        let before = self.crowd.progress()?.deliveries;
        wait_for("messages to be delivered", deadline, || {
            clock::pause(LOOK_INTERVAL);
            Ok(self.crowd.progress()?.deliveries > before)
        })
    }

    /// Waits until one more newcomer is connected, if any come.
    pub(crate) fn wait_until_it_accepts(&self, args: &RunArgs, deadline: Duration) -> Result<()> {
        let Some(newcomers) = &self.newcomers else { return Ok(()) };
        let before = newcomers.connected();
        wait_for("somebody new to connect", deadline, || {
            clock::pause(LOOK_INTERVAL);
            Ok(args.connect_rate == 0 || newcomers.connected() > before)
        })
    }

    /// Publishing ends, everybody gets the rest, and all are judged.
    pub(crate) fn judge(&mut self, args: &RunArgs) -> Result<Totals> {
        let newcomers = self.newcomers.take().map(Newcomers::end).transpose()?.unwrap_or_default();
        let mut published = Published::default();
        for publisher in self.publishers.drain(..) {
            let (numbers, one) = publisher.end();
            self.sent.push(numbers);
            published.add(one);
        }
        self.crowd.read_all()?;
        let arrived = wait_for("the last messages", args.settle.duration(), || {
            clock::pause(LOOK_INTERVAL);
            let verdict = self.crowd.judge(&self.sent)?;
            Ok(verdict.lost == 0 && verdict.unanswered == 0)
        });
        // Those that are missing then are counted below.
        drop(arrived);
        let clients = self.crowd.judge(&self.sent)?;
        Ok(Totals { clients, newcomers, published, requests: self.requests.answered.clone() })
    }

    /// The clients that were ever connected.
    pub(crate) fn connected(&self) -> Result<u64> {
        Ok(self.crowd.judge(&self.sent)?.connected)
    }

    /// The clients that are gone, by now.
    pub(crate) fn gone(&self) -> Result<u64> {
        Ok(self.crowd.judge(&self.sent)?.closed.values().sum())
    }

    /// All leave, and the server ends: its exit code.
    pub(crate) fn end(self) -> Result<Option<i32>> {
        let Self { crowd, mut server, .. } = self;
        crowd.end()?;
        server.stop()
    }
}

/// Publishes until the histories of all channels hold as much as they may.
fn fill(address: SocketAddr, mib: usize) -> Result<()> {
    let mut connection = Connection::open(address, CONNECT_DEADLINE).context("filling")?;
    let messages = (mib + mib / 4) * 1024 * 1024 / FILLER_BYTES;
    for message in 0..messages {
        let channel = message % FILLER_CHANNELS;
        let mut request = format!(
            "POST /broadcast?channel=filler-{channel} HTTP/1.1\r\nHost: {address}\r\n\
             Content-Length: {FILLER_BYTES}\r\n\r\n"
        )
        .into_bytes();
        request.resize(request.len() + FILLER_BYTES, b'f');
        let answer = connection.ask(&request).context("filling the histories")?;
        ensure!(answer.status == 202, "filling the histories: {}", answer.status);
    }
    Ok(())
}
