//! The accounts of the clients that stay: order, losses, and how long nothing came.

use std::{collections::BTreeMap, io};

use serde::Serialize;
use testkit::clock;
use wsload::{
    connection,
    form::Form,
    sequence::{Tally, Tracker},
    stamp::Stamp,
};

use super::plan::{Plan, Role};

/// How far they are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Clients whose handshake has an end, good or bad.
    pub(crate) settled: usize,
    pub(crate) deliveries: u64,
    /// When a message last came on the channel with many.
    pub(crate) last_fast_ns: u64,
}

/// The longest that any client waited in a window of time, of those that read all the time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Window {
    /// Between two messages of the channel with many, milliseconds.
    pub(crate) silence_ms: f64,
    /// Between two messages of the channel of all.
    pub(crate) silence_of_all_ms: f64,
    /// From the moment at which a message was due to its arrival, on either channel.
    pub(crate) delay_ms: f64,
}

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Verdict {
    pub(crate) connected: u64,
    pub(crate) deliveries: u64,
    /// Closed, by code, or `eof`, `reset`, `protocol`.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Not connected at all, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Numbers that never came, to those that were not closed.
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    /// Messages of clients that have no answer.
    pub(crate) unanswered: u64,
    /// Messages that nobody sent.
    pub(crate) strange: u64,
}

#[derive(Debug)]
struct Seat {
    trackers_at: usize,
    is_fast: bool,
    /// It reads all the time.
    is_prompt: bool,
    last_ns: u64,
    longest_ns: u64,
    /// Words that are no message of this run: of the subprotocol.
    words: u64,
    words_expected: u64,
}

/// The accounts.
#[derive(Debug)]
pub(super) struct Books {
    run: u32,
    seats: Vec<Seat>,
    trackers: Vec<Tracker>,
    fast_publishers: usize,
    half: std::ops::Range<usize>,
    tally: Tally,
    delay_ns: u64,
    progress: Progress,
    verdict: Verdict,
}

impl Books {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut trackers_at = 0;
        let seat = |at| {
            let role = plan.role(at);
            let is_fast = matches!(role, Role::Laggard | Role::Fast);
            let seat = Seat {
                trackers_at,
                is_fast,
                is_prompt: !matches!(role, Role::Laggard | Role::NonReader),
                last_ns: 0,
                longest_ns: 0,
                words: 0,
                // The greeting.
                words_expected: u64::from(plan.form(at).0 == Form::V1),
            };
            trackers_at += if is_fast { plan.fast_publishers } else { 1 };
            seat
        };
        let seats: Vec<Seat> = (0..plan.clients).map(seat).collect();
        Self {
            run: plan.run,
            seats,
            trackers: vec![Tracker::default(); trackers_at],
            fast_publishers: plan.fast_publishers,
            half: plan.of(Role::Half),
            tally: Tally::default(),
            delay_ns: 0,
            progress: Progress::default(),
            verdict: Verdict::default(),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { deliveries: self.verdict.deliveries, ..self.progress }
    }

    /// Each that was amid a message is to get an answer.
    pub(super) fn expect_pongs(&mut self) {
        let half = self.half.clone();
        self.seats[half].iter_mut().for_each(|seat| seat.words_expected += 1);
    }

    /// Closes the window, and opens the next one. Those that `reading` says to have gone are silent
    /// for another reason.
    pub(super) fn window(&mut self, reading: impl Iterator<Item = bool>) -> Window {
        let now_ns = clock::now_ns();
        let mut longest_ns = [0; 2];
        let seats = self.seats.iter_mut().zip(reading);
        for (seat, is_reading) in seats.filter(|(seat, _)| seat.is_prompt) {
            let has_begun = is_reading && seat.last_ns != 0;
            let open_ns = if has_begun { now_ns.saturating_sub(seat.last_ns) } else { 0 };
            let of = &mut longest_ns[usize::from(seat.is_fast)];
            *of = (*of).max(seat.longest_ns).max(open_ns);
            seat.longest_ns = 0;
        }
        let delay_ns = std::mem::take(&mut self.delay_ns);
        let [silence_of_all_ms, silence_ms] = longest_ns.map(milliseconds);
        Window { silence_ms, silence_of_all_ms, delay_ms: milliseconds(delay_ns) }
    }

    /// The result so far. Those that `reading` says to have gone are counted as closed, and not as
    /// losing what came later.
    pub(super) fn verdict(&self, sent: &[u32], reading: impl Iterator<Item = bool>) -> Verdict {
        let mut verdict = self.verdict.clone();
        verdict.lost = self.tally.holes;
        verdict.repeated = self.tally.repeats;
        verdict.reordered = self.tally.reordered;
        for (seat, is_reading) in self.seats.iter().zip(reading) {
            verdict.strange += seat.words.saturating_sub(seat.words_expected);
            if is_reading {
                verdict.unanswered += seat.words_expected.saturating_sub(seat.words);
                let (publishers, sent) = match seat.is_fast {
                    true => (self.fast_publishers, &sent[1..]),
                    false => (1, &sent[..1]),
                };
                let trackers = &self.trackers[seat.trackers_at..][..publishers];
                let pairs = trackers.iter().zip(sent);
                let missing = pairs.map(|(tracker, sent)| tracker.missing_tail(*sent));
                verdict.lost += missing.map(u64::from).sum::<u64>();
            }
        }
        verdict
    }
}

impl connection::Books for Books {
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    fn opened(&mut self, _is_resumed: bool) {
        self.progress.settled += 1;
        self.verdict.connected += 1;
    }

    fn failed(&mut self, error: &io::Error) {
        self.progress.settled += 1;
        *self.verdict.refused.entry(error.to_string()).or_default() += 1;
    }

    #[inline]
    fn message(&mut self, at: usize, stamp: Option<Stamp>, _bytes: u64, now_ns: u64) {
        let seat = &mut self.seats[at];
        let Some(stamp) = stamp.filter(|stamp| stamp.run == self.run) else {
            seat.words += 1;
            return;
        };
        let publisher = stamp.publisher as usize;
        if seat.is_fast != (publisher > 0) || publisher > self.fast_publishers {
            self.verdict.strange += 1;
            return;
        }
        self.verdict.deliveries += 1;
        let tracker = seat.trackers_at + publisher.saturating_sub(1);
        self.trackers[tracker].arrived(stamp.sequence, &mut self.tally);
        if seat.is_prompt {
            if seat.last_ns != 0 {
                seat.longest_ns = seat.longest_ns.max(now_ns.saturating_sub(seat.last_ns));
            }
            self.delay_ns = self.delay_ns.max(now_ns.saturating_sub(stamp.intended_ns));
        }
        if seat.is_fast {
            self.progress.last_fast_ns = now_ns;
        }
        seat.last_ns = now_ns;
    }

    fn closed(&mut self, word: &str) {
        *self.verdict.closed.entry(word.to_owned()).or_default() += 1;
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 1e5).round() / 10.0
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use connection::Books as _;

    use super::*;
    use crate::args::{Args, Command};

    const RUN: [&str; 12] = [
        "upgrades",
        "run",
        "--clients",
        "4",
        "--fast",
        "1",
        "--laggards",
        "0",
        "--half",
        "1",
        "--non-readers",
        "1",
    ];

    fn books() -> Books {
        let Command::Run(args) = Args::try_parse_from(RUN).unwrap().command else {
            unreachable!("it runs")
        };
        let plan = Plan::new(&args, ([127, 0, 0, 1], 1).into(), 3);
        Books { run: 7, ..Books::new(&plan) }
    }

    fn stamp(publisher: u32, sequence: u32) -> Option<Stamp> {
        Some(Stamp { run: 7, publisher, sequence, intended_ns: 1_000_000 })
    }

    /// Client 0 listens to the other channel, 1 is amid a message, 2 does not read, 3 listens.
    #[test]
    fn each_fault_is_counted_and_only_it() {
        let mut books = books();
        let all = || [true; 4].into_iter();
        for at in 1..4 {
            books.message(at, stamp(0, 0), 300, 5_000_000);
            books.message(at, stamp(0, 1), 300, 9_000_000);
        }
        for publisher in 1..4 {
            books.message(0, stamp(publisher, 0), 1000, 5_000_000);
        }
        books.message(1, None, 50, 1);
        let well = books.verdict(&[2, 1, 1, 1], all());
        let Verdict { lost, repeated, reordered, unanswered, strange, .. } = well;
        assert_eq!((lost, repeated, reordered, unanswered, strange), (0, 0, 0, 0, 0));
        assert_eq!(books.window(all()).delay_ms, 8.0);

        assert_eq!(books.verdict(&[3, 1, 1, 2], all()).lost, 4, "a tail is lost");
        let gone = [true, false, true, true].into_iter();
        assert_eq!(books.verdict(&[3, 1, 1, 1], gone).lost, 2, "a closed client loses nothing");
        books.expect_pongs();
        assert_eq!(books.verdict(&[2, 1, 1, 1], all()).unanswered, 1);
        books.message(1, None, 50, 1);
        assert_eq!(books.verdict(&[2, 1, 1, 1], all()).unanswered, 0);
        books.message(3, None, 50, 1);
        books.message(3, stamp(2, 0), 50, 1);
        assert_eq!(books.verdict(&[2, 1, 1, 1], all()).strange, 2);
        books.message(3, stamp(0, 1), 50, 1);
        books.message(3, stamp(0, 3), 50, 1);
        let wrong = books.verdict(&[4, 1, 1, 1], [true, false, false, true].into_iter());
        assert_eq!((wrong.lost, wrong.repeated, wrong.reordered), (1, 1, 0));
        books.message(3, stamp(0, 2), 50, 1);
        let late = books.verdict(&[4, 1, 1, 1], [true, false, false, true].into_iter());
        assert_eq!((late.lost, late.reordered), (0, 1));
    }
}
