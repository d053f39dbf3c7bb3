//! A reconnect storm: others that connect, upgrade and are reset again and again, while the
//! run's own clients listen.
//!
//! One thread of lower priority, so that on a shared core the storm waits for the clients whose
//! latency is measured, and not they for it. Connections end by reset (linger 0): no TIME_WAIT
//! uses up the ports. How many are on their way at a time is bounded; so is how long one may
//! take. It must not touch the books of the clients that stay.

mod requests;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use testkit::clock;

use crate::{
    args::{StormHold, StormRequest},
    clients::{Stage, latencies},
    dial::{self, Refusal, is_for_later},
    report,
    stream::Stream,
    tls::ClientTls,
};

/// Added to the thread's nice value: the least share there is, so that listeners never wait for it.
const NICENESS: i32 = 19;
/// Source addresses: each holds a part of the storm's ports.
const SOURCES: u32 = 16;
/// The first of them, apart from those of the clients that stay.
const SOURCE_FIRST: u32 = u32::from_be_bytes([127, 0, 1, 1]);
/// From connect to upgrade; then it counts as failed.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(10);
/// After a failure nothing is begun for so long: a dead server is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
const TURN_MAX: Duration = Duration::from_millis(10);
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// The storm to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StormPlan {
    pub(crate) clients: usize,
    pub(crate) parallel: usize,
    pub(crate) hold: StormHold,
    pub(crate) sends: StormRequest,
    pub(crate) source: Option<Ipv4Addr>,
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
}

/// The storm's outcome.
#[derive(Debug)]
pub(crate) struct StormOutcome {
    pub(crate) figures: report::Storm,
    pub(crate) first_failure: Option<String>,
    /// From connect to 101.
    pub(crate) connects_ns: Histogram<u64>,
}

/// Starts the storm's thread; it waits for its time by itself.
pub(crate) fn start(
    stage: Arc<Stage>,
    plan: StormPlan,
) -> Result<JoinHandle<Result<StormOutcome>>> {
    Builder::new()
        .name("storm".to_owned())
        .spawn(move || {
            // Of this thread only. Where it is not allowed, the storm takes its full share.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            Storm::new(stage, plan)?.run()
        })
        .context("a thread for the storm")
}

/// A connection on its way.
#[derive(Debug)]
struct Attempt {
    stream: Stream,
    /// The number of this attempt.
    turn: u64,
    started_ns: u64,
    state: State,
    answer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    /// Upgraded, until a message comes.
    Listening,
}

struct Storm {
    stage: Arc<Stage>,
    plan: StormPlan,
    poll: Poll,
    /// By token.
    attempts: Vec<Option<Attempt>>,
    free: Vec<usize>,
    /// Connected and left alone, oldest first.
    resting: VecDeque<Stream>,
    begin_from_ns: u64,
    outcome: StormOutcome,
}

impl Storm {
    fn new(stage: Arc<Stage>, plan: StormPlan) -> Result<Self> {
        let parallel = plan.parallel.min(plan.clients);
        Ok(Self {
            stage,
            plan,
            poll: Poll::new().context("an epoll set")?,
            attempts: (0..parallel).map(|_| None).collect(),
            free: (0..parallel).rev().collect(),
            resting: VecDeque::new(),
            begin_from_ns: 0,
            outcome: StormOutcome {
                figures: report::Storm::default(),
                first_failure: None,
                connects_ns: latencies(),
            },
        })
    }

    fn run(mut self) -> Result<StormOutcome> {
        clock::wait_until(self.plan.from_ns);
        let mut events = Events::with_capacity(self.attempts.len().max(1));
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let now = clock::now_ns();
            if now >= self.plan.to_ns || self.stage.stop.load(Relaxed) {
                return Ok(self.outcome);
            }
            self.give_up_old(now);
            while now >= self.begin_from_ns
                && let Some(at) = self.free.pop()
            {
                if let Err(error) = self.begin(at) {
                    self.failed(at, &error);
                }
            }
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("waiting for events")?,
            }
            for event in &events {
                let Token(at) = event.token();
                if let Err(error) = self.advance(at, &mut buffer) {
                    self.failed(at, &error);
                }
            }
            self.stage.storm_upgraded.store(self.outcome.figures.upgraded, Relaxed);
        }
    }

    fn begin(&mut self, at: usize) -> io::Result<()> {
        if self.resting.len() + self.on_their_way() > self.plan.clients {
            self.resting.pop_front();
        }
        let turn = self.outcome.figures.attempted;
        self.outcome.figures.attempted += 1;
        let source = self.stage.target.address.ip().is_loopback().then(|| {
            let host = SOURCE_FIRST + (turn % u64::from(SOURCES)) as u32;
            SocketAddr::from((self.plan.source.unwrap_or_else(|| host.into()), 0))
        });
        let source = source.filter(|_| self.stage.target.address.is_ipv4());
        let started_ns = clock::now_ns();
        let socket = dial::begin(self.stage.target.address, source, None)?;
        socket.set_linger(Some(Duration::ZERO))?;
        let session = self.stage.target.tls.as_ref().map(ClientTls::session).transpose();
        let session = session.map_err(io::Error::other)?;
        let mut stream = Stream::new(TcpStream::from_std(socket.into()), session);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream.socket(), Token(at), interest)?;
        let state = State::Connecting;
        self.attempts[at] = Some(Attempt { stream, turn, started_ns, state, answer: Vec::new() });
        Ok(())
    }

    fn on_their_way(&self) -> usize {
        self.attempts.len() - self.free.len()
    }

    /// Takes the attempt as far as its socket allows.
    fn advance(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(attempt) = &mut self.attempts[at] else { return Ok(()) };
        if attempt.state == State::Connecting {
            let request = requests::request(self.plan.sends, &self.stage.target, attempt.turn);
            if !dial::ask_for_upgrade(&mut attempt.stream, &request)? {
                return Ok(());
            }
            attempt.state = State::Upgrading;
        }
        let taken = match attempt.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(taken) => taken,
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        if attempt.state == State::Listening {
            self.end(at);
            return Ok(());
        }
        attempt.answer.extend_from_slice(&buffer[..taken]);
        match dial::upgrade_answer(&attempt.answer) {
            None => {}
            Some(Ok(head_bytes)) => {
                let has_message = attempt.answer.len() > head_bytes;
                self.upgraded(at, has_message)?;
            }
            Some(Err(Refusal::Status(status))) => {
                *self.outcome.figures.refused.entry(status.to_string()).or_default() += 1;
                self.end(at);
            }
            Some(Err(refusal)) => return Err(refusal.into()),
        }
        Ok(())
    }

    fn upgraded(&mut self, at: usize, has_message: bool) -> io::Result<()> {
        let Some(attempt) = &mut self.attempts[at] else { return Ok(()) };
        self.outcome.figures.upgraded += 1;
        self.outcome.figures.resumed += u64::from(attempt.stream.is_resumed());
        self.outcome.connects_ns.saturating_record(clock::now_ns() - attempt.started_ns);
        match self.plan.hold {
            StormHold::Message if !has_message => {
                attempt.state = State::Listening;
                attempt.answer = Vec::new();
                // Listening may take as long as it takes.
                attempt.started_ns = u64::MAX;
            }
            StormHold::Turn => {
                self.poll.registry().deregister(attempt.stream.socket())?;
                let attempt = self.attempts[at].take().expect("it is there");
                self.free.push(at);
                self.resting.push_back(attempt.stream);
            }
            StormHold::Upgrade | StormHold::Message => self.end(at),
        }
        Ok(())
    }

    /// The descriptor is closed, which resets the connection and leaves the epoll set.
    fn end(&mut self, at: usize) {
        self.attempts[at] = None;
        self.free.push(at);
    }

    fn failed(&mut self, at: usize, error: &io::Error) {
        self.outcome.figures.failed += 1;
        self.outcome.first_failure.get_or_insert_with(|| error.to_string());
        self.begin_from_ns = clock::now_ns() + clock::as_ns(FAILURE_PAUSE);
        self.end(at);
    }

    fn give_up_old(&mut self, now: u64) {
        let deadline = clock::as_ns(ATTEMPT_DEADLINE);
        for at in 0..self.attempts.len() {
            let is_old = self.attempts[at]
                .as_ref()
                .is_some_and(|attempt| now.saturating_sub(attempt.started_ns) > deadline);
            if is_old {
                self.failed(at, &io::Error::from(ErrorKind::TimedOut));
            }
        }
    }
}
