//! Publishers: a thread each, with one connection that is kept from beginning to end.
//!
//! An open loop: each message has its moment, and its stamp says which. A publish that is not
//! accepted, and a connection that does not stay, are counted; then the same message is sent again,
//! with its idempotency key, until it is accepted: so it is missed if and only if it was lost.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use testkit::{clock, http::Connection};
use wsload::stamp::Stamp;

/// For an answer to a publish.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// After a failure, so that a dead server is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// Digits of a key: a publisher's and a message's number.
const KEY_DIGITS: usize = 12;

/// The messages of a publisher.
#[derive(Clone, Debug)]
pub(crate) struct Press {
    pub(crate) address: SocketAddr,
    pub(crate) run: u32,
    pub(crate) publisher: u32,
    pub(crate) channel: &'static str,
    pub(crate) size: usize,
    /// Messages a second.
    pub(crate) rate: f64,
}

/// The result of one, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Published {
    pub(crate) accepted: u64,
    /// By status, or the kind of error.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Connections that the server ended behind an answer.
    pub(crate) ended: u64,
    pub(crate) slowest_ms: u64,
}

impl Published {
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.ended += other.ended;
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        for (word, count) in other.failed {
            *self.failed.entry(word).or_default() += count;
        }
    }
}

/// A publisher, from the conductor's side.
#[derive(Debug)]
pub(crate) struct Publisher {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Published)>,
}

impl Publisher {
    pub(crate) fn start(press: Press) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_over);
        let thread = Builder::new()
            .name(format!("publisher-{}", press.publisher))
            .spawn(move || run(&press, &theirs))
            .context("a thread for a publisher")?;
        Ok(Self { is_over, thread })
    }

    /// It publishes no more: how many numbers it has used, and how it went.
    pub(crate) fn end(self) -> (u32, Published) {
        self.is_over.store(true, Relaxed);
        self.thread.join().expect("no publisher panics")
    }
}

fn run(press: &Press, is_over: &AtomicBool) -> (u32, Published) {
    let (mut published, mut sequence) = (Published::default(), 0);
    let mut request = format!(
        "POST /broadcast?channel={} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nIdempotency-Key: {:0KEY_DIGITS$}\r\n\r\n",
        press.channel, press.address, press.size, 0
    )
    .into_bytes();
    let key_at = request.len() - "\r\n\r\n".len() - KEY_DIGITS;
    let body_at = request.len();
    request.resize(body_at + press.size, b'x');
    let from_ns = clock::now_ns();
    let mut connection = None;
    for slot in 0_u64.. {
        let intended_ns = from_ns + (slot as f64 * 1e9 / press.rate) as u64;
        clock::wait_until(intended_ns);
        if is_over.load(Relaxed) {
            break;
        }
        let stamp = Stamp { run: press.run, publisher: press.publisher, sequence, intended_ns };
        stamp.encode(&mut request[body_at..]);
        let key = format!("{:03}{sequence:09}", press.publisher);
        request[key_at..key_at + KEY_DIGITS].copy_from_slice(key.as_bytes());
        let sent_ns = clock::now_ns();
        if !is_accepted(&mut connection, press.address, &request, &mut published, is_over) {
            break;
        }
        let took_ms = (clock::now_ns() - sent_ns) / 1_000_000;
        published.slowest_ms = published.slowest_ms.max(took_ms);
        published.accepted += 1;
        sequence += 1;
    }
    (sequence, published)
}

/// Publishes until the message is accepted; false if it is over before.
fn is_accepted(
    connection: &mut Option<Connection>,
    address: SocketAddr,
    request: &[u8],
    published: &mut Published,
    is_over: &AtomicBool,
) -> bool {
    while !is_over.load(Relaxed) {
        let word = match publish(connection, address, request) {
            Ok((status, keeps_alive)) => {
                published.ended += u64::from(!keeps_alive);
                if status == 202 {
                    return true;
                }
                status.to_string()
            }
            Err(error) => error.kind().to_string(),
        };
        *published.failed.entry(word).or_default() += 1;
        clock::pause(FAILURE_PAUSE);
    }
    false
}

/// Status, and whether the connection stays.
fn publish(
    kept: &mut Option<Connection>,
    address: SocketAddr,
    request: &[u8],
) -> std::io::Result<(u16, bool)> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(address, ANSWER_DEADLINE)?,
    };
    let answer = connection.ask(request)?;
    if answer.keeps_alive {
        *kept = Some(connection);
    }
    Ok((answer.status, answer.keeps_alive))
}
