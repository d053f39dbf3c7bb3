//! The accounts of one thread's clients: counts, order, latency.
//!
//! They are written once per delivery, so they hold plain numbers only; the thread copies out the
//! figures that the conductor watches.

use std::io;

use hdrhistogram::Histogram;
use testkit::clock;

use super::{
    slices::{Slice, Slices},
    stage::Stage,
};
use crate::{
    connection,
    report::{Clients, Deliveries, add_counts},
    sequence::Tracker,
    stamp::Stamp,
};

/// Latencies are kept with three digits between 1 µs and two minutes.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("bounds that fit three digits")
}

/// The result of a thread, and of the whole run once merged.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) clients: Clients,
    /// The first reason of a failed connect or handshake.
    pub(crate) first_failure: Option<String>,
    pub(crate) deliveries: Deliveries,
    /// Payload bytes of this run's messages.
    pub(crate) bytes: u64,
    /// Readers whose connection ended before the run did.
    pub(crate) gone: u64,
    pub(crate) latencies_ns: Histogram<u64>,
    /// Latencies by time, warm-up included.
    pub(crate) slices: Vec<Slice>,
}

impl Outcome {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            clients: Clients::default(),
            first_failure: None,
            deliveries: Deliveries::default(),
            bytes: 0,
            gone: 0,
            latencies_ns: latencies(),
            slices: Vec::new(),
        }
    }

    /// Adds another thread's.
    pub(crate) fn merge(&mut self, other: Self) {
        let (sum, more) = (&mut self.clients, other.clients);
        sum.opened += more.opened;
        sum.resumed += more.resumed;
        sum.failed += more.failed;
        sum.complete += more.complete;
        add_counts(&mut sum.closed, more.closed);
        add_counts(&mut sum.stalled, more.stalled);
        let (sum, more) = (&mut self.deliveries, other.deliveries);
        sum.total += more.total;
        sum.foreign += more.foreign;
        sum.wrong_size += more.wrong_size;
        sum.tally.add(more.tally);
        sum.missing_at_end += more.missing_at_end;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.bytes += other.bytes;
        self.gone += other.gone;
        self.latencies_ns.add(other.latencies_ns).expect("the same bounds in all threads");
        if self.slices.len() < other.slices.len() {
            self.slices.resize(other.slices.len(), Slice::default());
        }
        for (slice, more) in self.slices.iter_mut().zip(&other.slices) {
            slice.add(more);
        }
    }
}

/// One thread's accounts.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) outcome: Outcome,
    pub(crate) timed_ns: (u64, u64),
    pub(crate) slices: Slices,
    run: u32,
    publishers: usize,
    message_bytes: u64,
    /// How many there are.
    channels: usize,
    /// By client: which channel it listens to.
    channel_of: Vec<u32>,
    /// By client, then by publisher.
    trackers: Vec<Tracker>,
}

impl Books {
    /// For one thread's clients, each with its channel.
    pub(crate) fn new(stage: &Stage, channel_of: Vec<u32>) -> Self {
        Self {
            outcome: Outcome::new(),
            timed_ns: (0, 0),
            slices: Slices::new(stage.started_ns, stage.slice_ns),
            run: stage.run,
            publishers: stage.publishers,
            message_bytes: stage.message_bytes,
            channels: stage.target.channels,
            trackers: vec![Tracker::default(); channel_of.len() * stage.publishers],
            channel_of,
        }
    }

    /// The accounts are closed.
    pub(crate) fn finish(mut self) -> Outcome {
        self.outcome.slices = self.slices.finish();
        self.outcome
    }

    /// Clients whose handshake has an end, good or bad.
    pub(crate) fn settled(&self) -> usize {
        (self.outcome.clients.opened + self.outcome.clients.failed) as usize
    }

    /// The messages that client `at` still lacks at the end of its streams.
    pub(crate) fn missing(&self, at: usize, sent: &[u32]) -> u64 {
        let trackers = &self.trackers[at * self.publishers..][..self.publishers];
        // Numbers count per publisher and channel.
        let sent = sent.iter().skip(self.channel_of[at] as usize).step_by(self.channels);
        let pairs = trackers.iter().zip(sent);
        pairs.map(|(tracker, sent)| u64::from(tracker.missing_tail(*sent))).sum()
    }

    /// A client that stayed to the end.
    pub(crate) fn client_ends(&mut self, at: usize, sent: &[u32]) {
        let missing = self.missing(at, sent);
        self.outcome.deliveries.missing_at_end += missing;
        self.outcome.clients.complete += u64::from(missing == 0);
    }
}

impl connection::Books for Books {
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    fn opened(&mut self, is_resumed: bool) {
        self.outcome.clients.opened += 1;
        self.outcome.clients.resumed += u64::from(is_resumed);
    }

    #[cold]
    fn failed(&mut self, error: &io::Error) {
        self.outcome.clients.failed += 1;
        self.outcome.first_failure.get_or_insert_with(|| error.to_string());
    }

    #[inline]
    fn message(&mut self, at: usize, stamp: Option<Stamp>, payload_bytes: u64, received_ns: u64) {
        let Some(stamp) = stamp
            .filter(|stamp| stamp.run == self.run && (stamp.publisher as usize) < self.publishers)
        else {
            self.outcome.deliveries.foreign += 1;
            return;
        };
        self.outcome.deliveries.total += 1;
        self.outcome.bytes += payload_bytes;
        self.outcome.deliveries.wrong_size += u64::from(payload_bytes != self.message_bytes);
        let tracker = &mut self.trackers[at * self.publishers + stamp.publisher as usize];
        tracker.arrived(stamp.sequence, &mut self.outcome.deliveries.tally);
        let latency = received_ns.saturating_sub(stamp.intended_ns);
        self.slices.record(latency);
        let (from, to) = self.timed_ns;
        if stamp.intended_ns >= from && stamp.intended_ns < to {
            self.outcome.latencies_ns.saturating_record(latency);
        }
    }

    fn closed(&mut self, word: &str) {
        self.outcome.gone += 1;
        *self.outcome.clients.closed.entry(word.to_owned()).or_default() += 1;
    }
}
