//! The sending side: threads that each own one kept-alive connection and one number in stamps.
//!
//! Blocking on purpose: a sleeping thread wakes closer to its moment than an epoll timeout in
//! whole milliseconds, and a closed loop is what a blocking call is. In an open loop the next
//! free publisher takes the next slot of the schedule; if none is free the slot waits, and its
//! stamp keeps the intended time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use testkit::{clock, http::Connection};

use crate::{
    clients::latencies,
    payload::Payload,
    report::{Publishes, add_counts},
    stamp::Stamp,
    target::{Target, write_channel},
};

/// For an answer to a publish; then it counts as unconfirmed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// After a publish that failed, so that a dead server is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// How long a thread stays for its CPU time to be read after its last message.
const MEASURED_DEADLINE: Duration = Duration::from_secs(10);

/// When messages are due, an open loop that a slow server cannot slow down: evenly spaced moments
/// in `[start_ns, end_ns)`. Each is computed from the start, so nothing drifts, and a slot taken
/// late keeps its intended time: waiting for a free publisher counts as latency (no coordinated
/// omission).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// Messages per second, all publishers together.
    pub(crate) rate: f64,
}

impl Schedule {
    /// When slot 0, 1, 2 … is due; none past the end.
    pub(crate) fn due_ns(&self, slot: u64) -> Option<u64> {
        let due = self.start_ns + (slot as f64 * 1e9 / self.rate) as u64;
        (due < self.end_ns).then_some(due)
    }
}

/// Between the conductor and the publishers.
#[derive(Debug)]
pub(crate) struct Press {
    pub(crate) target: Target,
    pub(crate) run: u32,
    pub(crate) message_bytes: usize,
    pub(crate) payload: Payload,
    /// Live: when each message is due. Burst: only its start and end count.
    pub(crate) schedule: Schedule,
    pub(crate) is_open_loop: bool,
    pub(crate) messages_max: u64,
    pub(crate) slots: AtomicU64,
    pub(crate) accepted: AtomicU64,
    /// The conductor has read the threads' CPU time: they may end.
    pub(crate) is_measured: AtomicBool,
}

/// The work of one publisher, or of all of them.
#[derive(Debug)]
pub(crate) struct Published {
    /// Sequence numbers used, per publisher and channel.
    pub(crate) sent: Vec<u32>,
    pub(crate) figures: Publishes,
    /// From the intended to the actual time of sending.
    pub(crate) lateness_ns: Histogram<u64>,
    /// From sending to the answer.
    pub(crate) answers_ns: Histogram<u64>,
}

impl Published {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            sent: Vec::new(),
            figures: Publishes::default(),
            lateness_ns: latencies(),
            answers_ns: latencies(),
        }
    }

    /// Adds the next publisher's.
    pub(crate) fn merge(&mut self, other: Self) {
        self.sent.extend(other.sent);
        let (sum, more) = (&mut self.figures, other.figures);
        sum.attempted += more.attempted;
        sum.accepted += more.accepted;
        sum.unconfirmed += more.unconfirmed;
        add_counts(&mut sum.refused, more.refused);
        self.lateness_ns.add(other.lateness_ns).expect("the same bounds in all threads");
        self.answers_ns.add(other.answers_ns).expect("the same bounds in all threads");
    }
}

/// Starts publisher number `publisher`.
pub(crate) fn start(press: Arc<Press>, publisher: u32) -> Result<JoinHandle<Published>> {
    Builder::new()
        .name(format!("publisher-{publisher}"))
        .spawn(move || Publisher::new(press, publisher).run())
        .context("a thread for a publisher")
}

/// How a publish ended.
enum Ending {
    Accepted,
    Refused(String),
    Unconfirmed,
}

struct Publisher {
    press: Arc<Press>,
    publisher: u32,
    /// The next number of each channel.
    sequences: Vec<u32>,
    connection: Option<Connection>,
    /// Head and body of the request; only the stamp changes.
    request: Vec<u8>,
    body_at: usize,
    published: Published,
}

impl Publisher {
    fn new(press: Arc<Press>, publisher: u32) -> Self {
        let mut request = press.target.publish_head.clone().into_bytes();
        request.extend_from_slice(format!("{}\r\n\r\n", press.message_bytes).as_bytes());
        let body_at = request.len();
        request.resize(body_at + press.message_bytes, 0);
        press.payload.fill(&mut request[body_at..]);
        let sequences = vec![0; press.target.channels];
        Self {
            press,
            publisher,
            sequences,
            connection: None,
            request,
            body_at,
            published: Published::new(),
        }
    }

    fn run(mut self) -> Published {
        clock::wait_until(self.press.schedule.start_ns);
        while let Some((slot, intended_ns)) = self.next_moment() {
            self.publish((slot % self.sequences.len() as u64) as usize, intended_ns);
        }
        self.published.sent.extend(&self.sequences);
        let deadline = clock::now_ns() + clock::as_ns(MEASURED_DEADLINE);
        while !self.press.is_measured.load(Relaxed) && clock::now_ns() < deadline {
            clock::pause(Duration::from_millis(2));
        }
        self.published
    }

    /// Waits for the next message's time; its number and that time, none at the end.
    fn next_moment(&self) -> Option<(u64, u64)> {
        let schedule = &self.press.schedule;
        let slot = self.press.slots.fetch_add(1, Relaxed);
        if slot >= self.press.messages_max {
            return None;
        }
        if self.press.is_open_loop {
            let due_ns = schedule.due_ns(slot)?;
            clock::wait_until(due_ns);
            // Backlogged slots of a server that fell far behind are not sent for ever.
            let is_hopeless = clock::now_ns() > schedule.end_ns + clock::as_ns(ANSWER_DEADLINE);
            return (!is_hopeless).then_some((slot, due_ns));
        }
        let now = clock::now_ns();
        (now < schedule.end_ns).then_some((slot, now))
    }

    fn publish(&mut self, channel: usize, intended_ns: u64) {
        let stamp = Stamp {
            run: self.press.run,
            publisher: self.publisher,
            sequence: self.sequences[channel],
            intended_ns,
        };
        stamp.encode(&mut self.request[self.body_at..]);
        write_channel(&mut self.request, self.press.target.publish_digits_at, channel);
        let sent_ns = clock::now_ns();
        self.published.figures.attempted += 1;
        match self.exchange() {
            Ending::Accepted => {
                self.sequences[channel] += 1;
                self.published.figures.accepted += 1;
                self.press.accepted.fetch_add(1, Relaxed);
                self.published.lateness_ns.saturating_record(sent_ns - intended_ns);
                self.published.answers_ns.saturating_record(clock::now_ns() - sent_ns);
            }
            // Nobody got it: its number is free for the next message.
            Ending::Refused(word) => {
                *self.published.figures.refused.entry(word).or_default() += 1;
                clock::pause(FAILURE_PAUSE);
            }
            Ending::Unconfirmed => {
                self.sequences[channel] += 1;
                self.published.figures.unconfirmed += 1;
                clock::pause(FAILURE_PAUSE);
            }
        }
    }

    fn exchange(&mut self) -> Ending {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(self.press.target.publish_address, ANSWER_DEADLINE) {
                Ok(connection) => connection,
                Err(_) => return Ending::Refused("connect".to_owned()),
            },
        };
        let Ok(answer) = connection.ask(&self.request) else { return Ending::Unconfirmed };
        self.connection = Some(connection).filter(|_| answer.keeps_alive);
        match answer.status {
            _ if answer.is_success() => Ending::Accepted,
            504 => Ending::Unconfirmed,
            status => Ending::Refused(status.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn slots_are_evenly_spaced_from_the_start() {
        let schedule = Schedule { start_ns: 5 * SECOND, end_ns: 6 * SECOND, rate: 50.0 };
        let due: Vec<u64> = (0..).map_while(|slot| schedule.due_ns(slot)).collect();
        assert_eq!(due.len(), 50);
        assert_eq!(due[0], 5 * SECOND);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 20_000_000));
    }

    #[test]
    fn an_hour_at_an_odd_rate_does_not_drift() {
        let schedule = Schedule { start_ns: 0, end_ns: 3601 * SECOND, rate: 333.0 };
        assert_eq!(schedule.due_ns(333 * 3600), Some(3600 * SECOND));
    }

    #[test]
    fn less_than_one_a_second_is_a_rate() {
        let schedule = Schedule { start_ns: 0, end_ns: 10 * SECOND, rate: 0.25 };
        assert_eq!(schedule.due_ns(2), Some(8 * SECOND));
        assert_eq!(schedule.due_ns(3), None);
    }
}
