//! The loops of a shard: readiness of clients, publications out, the beat.
//!
//! Each is one task that runs as long as the shard. None holds a borrow across an await, none
//! runs longer than its slice before others get their turn.

use std::{collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{core::Core, mailbox::Mail, placement::Placement};
use crate::{
    broker::Announcement,
    conn::{ConnectionTable, socket::Poller},
    hub::Pass,
    limits::{APPEND_TURN_BYTES_MAX, EVENTS_SLICE, PASS_SLICE, SHARD_BEAT_INTERVAL},
    metrics::ShardMetrics,
    telemetry::seldom,
};

/// Reads from and writes to clients that are ready, and continues with those that wait for a turn.
pub(super) async fn events(core: Rc<Core>, mut poller: Poller) -> &'static str {
    let clock = core.clock;
    let mut batch = Vec::new();
    let mut waiting = VecDeque::new();
    let mut follow_ups = VecDeque::new();
    loop {
        if waiting.is_empty() && follow_ups.is_empty() {
            tokio::select! {
                ready = poller.ready(&mut batch) => if let Err(error) = ready {
                    seldom!(error, "the clients' epoll set failed", %error);
                    return "event";
                },
                () = core.follow_ups.notified() => {}
            }
            waiting.extend(batch.drain(..));
            follow_ups.extend(core.with(ConnectionTable::take_follow_ups));
        }
        core.input.opened().await;
        let now = clock.now();
        let slice_end = clock.instant() + EVENTS_SLICE;
        core.with(|clients| {
            while clock.instant() < slice_end {
                if let Some(ready) = waiting.pop_front() {
                    clients.on_ready(ready, now);
                } else if let Some(follow_up) = follow_ups.pop_front() {
                    clients.follow_up(follow_up, now, &*core.broker);
                } else {
                    return;
                }
            }
        });
        yield_now().await;
    }
}

/// Takes publications from the mailbox, appends them to the logs, moves bytes to the clients. A
/// pass that was cut continues at once; between two whole ones there is `pause`.
pub(super) async fn fan_out(
    core: Rc<Core>,
    metrics: Arc<ShardMetrics>,
    pause: Duration,
) -> &'static str {
    let clock = core.clock;
    let mut mail = Vec::new();
    let mut arrivals = Arrivals::default();
    let mut more = false;
    let mut pace = Pace::new(pause);
    loop {
        if !more {
            core.mailbox.filled().await;
        }
        core.output.opened().await;
        append(&core, &mut mail, &mut arrivals.new);
        while let Some(due) = pace.next_pass(clock.instant()) {
            // Into the logs at once: a client that is closed meanwhile gets it.
            tokio::select! {
                () = sleep_until(due) => {}
                () = core.mailbox.filled() => {
                    core.output.opened().await;
                    append(&core, &mut mail, &mut arrivals.new);
                }
            }
        }
        core.output.opened().await;
        let slice_end = clock.instant() + PASS_SLICE;
        let pass = core.with(|clients| clients.pass(&mut || clock.instant() < slice_end));
        let now = clock.instant();
        arrivals.passed(pass, &metrics, now);
        more = pass.more || !core.mailbox.is_empty();
        pace.passed(pass.more, now);
        if more {
            yield_now().await;
        }
    }
}

/// Moves a turn's worth of mail into the logs, or none while clients have to leave to make room.
fn append(core: &Rc<Core>, mail: &mut Vec<Mail>, arrivals: &mut Vec<Instant>) {
    if core.with(|clients| clients.is_pressed()) {
        return;
    }
    core.mailbox.take(APPEND_TURN_BYTES_MAX, mail);
    for piece in mail.drain(..) {
        deliver(core, piece, arrivals);
    }
}

/// Moves all mail there is into the logs.
pub(super) fn append_all(core: &Rc<Core>) {
    let mut mail = Vec::new();
    core.mailbox.take(usize::MAX, &mut mail);
    mail.into_iter().for_each(|piece| deliver(core, piece, &mut Vec::new()));
}

/// The times at which passes may begin: after a whole one there is a pause, a cut one continues at
/// once.
#[derive(Debug)]
struct Pace {
    pause: Duration,
    not_before: Option<Instant>,
}

impl Pace {
    fn new(pause: Duration) -> Self {
        Self { pause, not_before: None }
    }

    /// When the next pass may begin, if not at `now`.
    fn next_pass(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|&not_before| now < not_before)
    }

    /// A pass has ended, or was cut with `more` to do.
    fn passed(&mut self, more: bool, now: Instant) {
        self.not_before = (!more && !self.pause.is_zero()).then_some(now + self.pause);
    }
}

/// When the messages came for which not all clients have been visited yet.
///
/// At most what came during two sweeps over the clients: under a load that never lets the passes
/// run out of work they are timed, and forgotten, all the same.
#[derive(Debug, Default)]
struct Arrivals {
    /// Before the sweep under way began.
    swept: Vec<Instant>,
    /// Since then.
    new: Vec<Instant>,
}

impl Arrivals {
    /// Times what a pass has brought to everyone.
    fn passed(&mut self, pass: Pass, metrics: &ShardMetrics, now: Instant) {
        if !pass.swept && pass.more {
            return;
        }
        for arrival in self.swept.drain(..) {
            observe(metrics, arrival, now);
        }
        if pass.more {
            std::mem::swap(&mut self.swept, &mut self.new);
        } else {
            self.new.drain(..).for_each(|arrival| observe(metrics, arrival, now));
        }
    }
}

fn observe(metrics: &ShardMetrics, arrival: Instant, now: Instant) {
    let took = now.saturating_duration_since(arrival);
    metrics.fanout.observe_us(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
}

pub(super) fn deliver(core: &Rc<Core>, mail: Mail, arrivals: &mut Vec<Instant>) {
    match mail {
        Mail::Publication(publication, arrived) => {
            let appended = core.with(|clients| clients.append(&publication));
            if appended {
                if let Some(position) = &publication.position {
                    core.ahead.appended(&publication.channel, position);
                }
                arrivals.push(arrived);
            }
        }
        Mail::Gap(channel, missed) => core.with(|clients| clients.lost(&channel, &missed)),
        Mail::Announcement(announcement, count) => {
            let concerned = carry_out(core, &announcement);
            if let Some(count) = count {
                // An error means that nobody waits for the answer any longer.
                let _ = count.send(concerned);
            }
        }
        Mail::Call(call) => call(),
    }
}

/// Does what all shards are to do; returns how many clients it concerns.
fn carry_out(core: &Rc<Core>, announcement: &Announcement) -> usize {
    let Announcement::Disconnect(disconnection) = announcement;
    let now = core.clock.now();
    core.with(|clients| clients.disconnect(disconnection, now))
}

/// Deadlines, pings, pacing and memory of the clients; and the sign that this shard lives.
pub(super) async fn beat(
    core: Rc<Core>,
    metrics: Arc<ShardMetrics>,
    placement: Arc<Placement>,
    index: usize,
) -> &'static str {
    let clock = core.clock;
    let mut ticks = interval(SHARD_BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        let late = clock.instant().saturating_duration_since(due);
        let now = clock.now();
        metrics.loop_lag_us.set(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        placement.beats(index, now);
        if core.output.is_closed() {
            continue;
        }
        core.with(|clients| clients.begin_tick(now));
        loop {
            core.output.opened().await;
            let slice_end = clock.instant() + EVENTS_SLICE;
            if core.with(|clients| clients.work_off(&mut || clock.instant() < slice_end)) {
                break;
            }
            yield_now().await;
            // It has much to do, and others have their turn: it lives.
            placement.beats(index, clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    /// There is a pause between whole passes and none for rare messages or cut passes.
    #[test]
    fn whole_passes_have_a_pause_between_them() {
        let start = Clock::start().instant();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(Duration::from_millis(8));
        assert_eq!(pace.next_pass(at(0)), None, "the first message goes at once");
        pace.passed(false, at(10));
        assert_eq!(pace.next_pass(at(11)), Some(at(18)));
        assert_eq!(pace.next_pass(at(18)), None);
        pace.passed(true, at(20));
        assert_eq!(pace.next_pass(at(20)), None, "a cut pass goes on");
        let mut off = Pace::new(Duration::ZERO);
        off.passed(false, at(10));
        assert_eq!(off.next_pass(at(10)), None);
    }

    /// Arrivals are timed and forgotten though the passes never run out of work.
    #[test]
    fn arrivals_are_timed_while_passes_go_on() {
        let (mut arrivals, metrics) = (Arrivals::default(), ShardMetrics::default());
        let now = Clock::start().instant();
        for round in 0..1000 {
            arrivals.new.push(now);
            let pass = Pass { more: true, swept: round % 2 == 1, ..Pass::default() };
            arrivals.passed(pass, &metrics, now);
            assert!(arrivals.new.len() + arrivals.swept.len() <= 4);
        }
        arrivals.passed(Pass::default(), &metrics, now);
        assert!(arrivals.new.is_empty() && arrivals.swept.is_empty());
    }
}
