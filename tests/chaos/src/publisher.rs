//! The publishers: an open loop at a fixed rate, and repetitions of everything that was not
//! answered well.
//!
//! Every message has an idempotency key. Without a good answer the same key goes to another server
//! until there is one; `local` is an answer. Messages that the cluster acknowledged are in the
//! ledger.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use serde::Deserialize;
use testkit::{clock, http::Answer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    frame::payload,
    judge::{Acknowledged, Place},
    shared::{Shared, channel_name},
};

/// Requests on their way at a time; each may wait for more than a second.
const PUBLISHERS: usize = 200;
/// An answer is promised within 1.2 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const RETRY_MS: std::ops::Range<u64> = 20..150;
/// Then a publisher gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Moments that are missed by more than this are left out.
const LATENESS_MAX: Duration = Duration::from_millis(200);

/// The body of a 202.
#[derive(Debug, Deserialize)]
struct Accepted<'a> {
    epoch: Option<&'a str>,
    offset: Option<u64>,
    scope: &'a str,
}

/// From the conductor to all publishers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Press {
    #[default]
    Waits,
    Runs,
    IsOver,
}

/// How one request was answered.
enum Outcome {
    Cluster,
    Local,
    Again,
}

struct Publisher {
    shared: Arc<Shared>,
    random: Rng,
    server: usize,
    connection: Option<TcpStream>,
    answer: Vec<u8>,
}

/// One message on each channel, surely in the cluster: the first, or the last.
pub(super) fn one_each(shared: &Arc<Shared>, is_last: bool) -> Result<()> {
    let all = async {
        let mut publisher = Publisher::new(shared, 0);
        for channel in 0..shared.channels() {
            let deadline_ns = clock::now_ns() + clock::as_ns(PATIENCE);
            // A local message is in nobody's order: another one is needed.
            while !matches!(publisher.publish(channel, is_last).await, Outcome::Cluster) {
                let channel = channel_name(channel);
                ensure!(clock::now_ns() < deadline_ns, "{channel}: nothing reaches the cluster");
                sleep(Duration::from_millis(RETRY_MS.end)).await;
            }
        }
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a publisher's runtime")?.block_on(all)
}

/// Publishes at `rate` to all channels in turn while the press runs.
pub(super) async fn run(
    shared: &Arc<Shared>,
    rate: usize,
    seed: u64,
    mut press: watch::Receiver<Press>,
) -> Result<()> {
    let _ = press.wait_for(|press| *press != Press::Waits).await;
    let slots = Arc::new(AtomicU64::new(0));
    let start_ns = clock::now_ns();
    let mut tasks = JoinSet::new();
    for index in 0..PUBLISHERS.min(rate) {
        let mut publisher = Publisher::new(shared, seed.wrapping_add(index as u64));
        let (slots, press) = (Arc::clone(&slots), press.clone());
        shared.publishers.fetch_add(1, Relaxed);
        tasks.spawn_local(async move {
            while *press.borrow() == Press::Runs {
                let slot = slots.fetch_add(1, Relaxed);
                let due_ns = start_ns + slot * 1_000_000_000 / rate as u64;
                let now_ns = clock::now_ns();
                if now_ns > due_ns + clock::as_ns(LATENESS_MAX) {
                    continue;
                }
                sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns))).await;
                let channel = (slot % publisher.shared.channels() as u64) as usize;
                publisher.publish(channel, false).await;
            }
            publisher.shared.publishers.fetch_sub(1, Relaxed);
        });
    }
    while let Some(one) = tasks.join_next().await {
        one.context("a publisher")?;
    }
    Ok(())
}

impl Publisher {
    fn new(shared: &Arc<Shared>, seed: u64) -> Self {
        let shared = Arc::clone(shared);
        let mut random = Rng::with_seed(seed);
        let server = random.usize(0..shared.doors.len());
        Self { shared, random, server, connection: None, answer: Vec::new() }
    }

    /// Publishes the next message of a channel, again and again until it is answered well.
    async fn publish(&mut self, channel: usize, is_last: bool) -> Outcome {
        let number = self.shared.next_number(channel);
        let body = payload(number, is_last);
        let began_ns = clock::now_ns();
        let phase = self.shared.phase();
        loop {
            let answer = timeout(ANSWER_DEADLINE, self.exchange(channel, &body)).await;
            match self.outcome(phase, channel, number, answer.ok().and_then(Result::ok)) {
                Outcome::Again if clock::now_ns() - began_ns > clock::as_ns(PATIENCE) => {
                    self.shared.answered(phase, |answers| answers.abandoned += 1);
                    return Outcome::Again;
                }
                Outcome::Again => {
                    let wait_ms = self.random.u64(RETRY_MS);
                    sleep(Duration::from_millis(wait_ms)).await;
                    self.go_elsewhere();
                }
                done => return done,
            }
        }
    }

    fn outcome(
        &mut self,
        phase: usize,
        channel: usize,
        number: u32,
        answer: Option<(Answer, u64)>,
    ) -> Outcome {
        let Some((answer, took_ms)) = answer else {
            self.connection = None;
            self.shared.answered(phase, |answers| answers.failed += 1);
            return Outcome::Again;
        };
        if !answer.keeps_alive {
            self.connection = None;
        }
        let body = &self.answer[answer.head_bytes..answer.head_bytes + answer.body_bytes];
        let accepted = serde_json::from_slice::<Accepted<'_>>(body).ok();
        let accepted = accepted.filter(|_| answer.status == 202);
        let outcome = match accepted {
            Some(Accepted { epoch: Some(epoch), offset: Some(offset), scope: "cluster" }) => {
                let place = Place { epoch: self.shared.epoch(epoch), offset };
                self.shared.acknowledge(channel, Acknowledged { number, place, phase });
                Outcome::Cluster
            }
            Some(_) => Outcome::Local,
            None => Outcome::Again,
        };
        self.shared.answered(phase, |answers| {
            let count = match (&outcome, answer.status) {
                (Outcome::Cluster, _) => &mut answers.cluster,
                (Outcome::Local, _) => &mut answers.local,
                (Outcome::Again, 504) => &mut answers.unconfirmed,
                (Outcome::Again, _) => &mut answers.refused,
            };
            *count += 1;
            answers.slowest_ms = answers.slowest_ms.max(took_ms);
        });
        outcome
    }

    /// Another server, if another is up.
    fn go_elsewhere(&mut self) {
        let is_up = |server: &usize| self.shared.doors[*server].is_up.load(Relaxed);
        let others = (0..self.shared.doors.len()).filter(|server| *server != self.server);
        if let Some(other) = self.random.choice(others.filter(is_up).collect::<Vec<_>>()) {
            self.connection = None;
            self.server = other;
        }
    }

    /// Sends the request and reads the answer; how long that took.
    async fn exchange(&mut self, channel: usize, body: &str) -> io::Result<(Answer, u64)> {
        let address = self.shared.doors[self.server].address;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(address).await?,
        };
        let name = channel_name(channel);
        let key = body.replace(' ', "-");
        let request = format!(
            "POST /broadcast?channel={name} HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: text/plain\r\nIdempotency-Key: {key}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let began_ns = clock::now_ns();
        connection.write_all(request.as_bytes()).await?;
        self.answer.clear();
        loop {
            if connection.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(answer) = Answer::parse(&self.answer) else { continue };
            let answer = answer.map_err(io::Error::other)?;
            if self.answer.len() >= answer.head_bytes + answer.body_bytes {
                self.connection = Some(connection);
                return Ok((answer, (clock::now_ns() - began_ns) / 1_000_000));
            }
        }
    }
}
