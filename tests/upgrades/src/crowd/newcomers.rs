//! Clients that come and go: each connects, gets messages without a hole for a while, and leaves.
//!
//! An open loop: new ones come at their rate, whatever the server does. Their addresses are many,
//! so that ports do not run out.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use mio::{Events, Poll, Token};
use serde::Serialize;
use testkit::clock;
use wsload::{
    connection::{self, Connection},
    sequence::{Tally, Tracker},
    stamp::Stamp,
};

use super::plan::Plan;

const EVENTS_PER_TURN: usize = 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
const TURN_MAX: Duration = Duration::from_millis(2);
/// How long each stays; at 500 a second they find room beside 18,000 others.
const STAY: Duration = Duration::from_millis(300);
/// From its first step to its first message.
const SERVED_DEADLINE: Duration = Duration::from_secs(15);

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct NewcomersVerdict {
    pub(crate) begun: u64,
    pub(crate) connected: u64,
    pub(crate) deliveries: u64,
    /// By reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// By code, or `eof`, `reset`, `protocol`.
    pub(crate) closed: BTreeMap<String, u64>,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    /// Got nothing.
    pub(crate) unserved: u64,
    /// The longest from a client's first step to its handshake's end.
    pub(crate) handshake_ms_max: u64,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    connected: AtomicU64,
}

/// Those that come and go, from the conductor's side.
#[derive(Debug)]
pub(crate) struct Newcomers {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<NewcomersVerdict>>,
}

impl Newcomers {
    pub(crate) fn start(plan: Arc<Plan>, rate: usize) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = Builder::new()
            .name("newcomers".to_owned())
            .spawn(move || Coming::new(plan, rate, theirs)?.run())
            .context("a thread for newcomers")?;
        Ok(Self { shared, thread })
    }

    /// So many were connected so far.
    pub(crate) fn connected(&self) -> u64 {
        self.shared.connected.load(Relaxed)
    }

    /// No more come, those that are there leave.
    pub(crate) fn end(self) -> Result<NewcomersVerdict> {
        self.shared.is_over.store(true, Relaxed);
        self.thread.join().expect("no newcomer panics")
    }
}

struct Coming {
    plan: Arc<Plan>,
    poll: Poll,
    rate: usize,
    /// By token.
    connections: Vec<Connection>,
    free: Vec<usize>,
    books: Books,
    shared: Arc<Shared>,
    /// Since then; and how many have come.
    from_ns: u64,
    number: usize,
}

impl Coming {
    fn new(plan: Arc<Plan>, rate: usize, shared: Arc<Shared>) -> Result<Self> {
        let books = Books { run: plan.run, ..Books::default() };
        Ok(Self {
            plan,
            poll: Poll::new().context("an epoll set")?,
            rate,
            connections: Vec::new(),
            free: Vec::new(),
            books,
            shared,
            from_ns: clock::now_ns(),
            number: 0,
        })
    }

    fn run(mut self) -> Result<NewcomersVerdict> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let now_ns = clock::now_ns();
            if self.shared.is_over.load(Relaxed) {
                if self.free.len() == self.connections.len() {
                    break;
                }
            } else {
                let due = (now_ns - self.from_ns) as f64 / 1e9 * self.rate as f64;
                while self.number < due as usize {
                    self.begin(now_ns);
                }
            }
            self.take_leave(now_ns, &mut buffer);
            self.shared.connected.store(self.books.verdict.connected, Relaxed);
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("waiting for events")?,
            }
            let registry = self.poll.registry();
            for event in &events {
                let Token(at) = event.token();
                self.books.at = at;
                let (client, at_end) = (&mut self.connections[at], event.is_read_closed());
                client.on_event(at, at_end, &mut buffer, registry, &mut self.books);
            }
        }
        let mut verdict = self.books.verdict;
        let Tally { holes, repeats, reordered } = self.books.tally;
        (verdict.lost, verdict.repeated, verdict.reordered) = (holes, repeats, reordered);
        Ok(verdict)
    }

    fn begin(&mut self, now_ns: u64) {
        let at = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Connection::none());
            self.books.stays.push(Stay::default());
            self.connections.len() - 1
        });
        self.books.at = at;
        self.books.verdict.begun += 1;
        self.books.stays[at] = Stay { begun_ns: now_ns, ..Stay::default() };
        let opening = self.plan.newcomer(self.number);
        self.number += 1;
        match Connection::start(opening, at, self.poll.registry()) {
            Ok(connection) => self.connections[at] = connection,
            Err(error) => connection::Books::failed(&mut self.books, &error),
        }
        self.books.stays[at].is_there = true;
    }

    /// Those whose time is over leave, and the places of those that were closed are free.
    fn take_leave(&mut self, now_ns: u64, buffer: &mut [u8]) {
        for at in 0..self.connections.len() {
            let stay = &self.books.stays[at];
            if !stay.is_there {
                continue;
            }
            let age_ns = now_ns.saturating_sub(stay.begun_ns);
            let is_served = stay.tracker.is_some() && age_ns > clock::as_ns(STAY);
            let is_hopeless = age_ns > clock::as_ns(SERVED_DEADLINE);
            if !(stay.has_ended || is_served || is_hopeless) {
                continue;
            }
            self.books.verdict.unserved += u64::from(!stay.has_ended && !is_served);
            self.connections[at].finish(buffer);
            self.connections[at] = Connection::none();
            self.books.stays[at].is_there = false;
            self.free.push(at);
        }
    }
}

/// One client's visit.
#[derive(Debug, Default)]
struct Stay {
    begun_ns: u64,
    is_there: bool,
    has_ended: bool,
    /// From its first message on.
    tracker: Option<Tracker>,
}

#[derive(Debug, Default)]
struct Books {
    run: u32,
    /// The client that an event is for.
    at: usize,
    stays: Vec<Stay>,
    tally: Tally,
    verdict: NewcomersVerdict,
}

impl connection::Books for Books {
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    fn opened(&mut self, _is_resumed: bool) {
        let took_ns = clock::now_ns() - self.stays[self.at].begun_ns;
        let longest = &mut self.verdict.handshake_ms_max;
        *longest = (*longest).max(took_ns / 1_000_000);
        self.verdict.connected += 1;
    }

    fn failed(&mut self, error: &io::Error) {
        self.stays[self.at].has_ended = true;
        *self.verdict.refused.entry(error.to_string()).or_default() += 1;
    }

    fn message(&mut self, at: usize, stamp: Option<Stamp>, _bytes: u64, _now_ns: u64) {
        let Some(stamp) = stamp.filter(|stamp| stamp.run == self.run) else { return };
        self.verdict.deliveries += 1;
        let tracker = self.stays[at].tracker.get_or_insert_with(|| Tracker::from(stamp.sequence));
        tracker.arrived(stamp.sequence, &mut self.tally);
    }

    fn closed(&mut self, word: &str) {
        self.stays[self.at].has_ended = true;
        *self.verdict.closed.entry(word.to_owned()).or_default() += 1;
    }
}
