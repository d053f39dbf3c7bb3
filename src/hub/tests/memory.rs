//! Memory is bounded, exactly accounted, and given back.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use super::{events, name, pass, pipe::Pipe, roomy_hub, settings};
use crate::{
    hub::{Budget, Encoding, Event, Hub, Log, Outlet, SlowPolicy, Unchanged},
    limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN},
    ws::Kind,
};

/// Takes everything and forgets it.
struct Sink(u64);

impl Outlet for Sink {
    type Shared = ();

    fn shared(_budget: &Arc<Budget>) {}

    fn write_vectored(&mut self, (): &mut (), slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let taken = slices.iter().map(|slice| slice.len()).sum();
        self.0 += taken as u64;
        Ok(taken)
    }
}

/// Ten thousand quiet channels cost less than fifteen hundred bytes each.
#[test]
fn ten_thousand_quiet_channels_cost_little() {
    let mut hub = roomy_hub();
    for number in 0..10_000 {
        let key = hub.insert(Sink(0));
        hub.subscribe(key, &name(&format!("channel-{number}")), Encoding::Plain);
        hub.publish(&format!("channel-{number}"), &mut Unchanged::new(Kind::Text, &[b'x'; 100]));
    }
    assert_eq!(hub.pass(&mut || true).deliveries, 10_000);
    let chunks = hub.held_bytes() / 10_000;
    // Besides the chunks: the log, its list of chunks, the smallest subscriber list, its name
    // twice.
    let around = size_of::<Log>() + 64 + 4 * 16 + 64 + 64;
    assert!(chunks + around < 1_500, "{chunks} + {around}");
}

/// A million subscribers of one channel are served and leave.
#[test]
fn a_million_subscribers_are_served_and_leave() {
    let mut hub = roomy_hub();
    let keys: Vec<_> = (0..1_000_000).map(|_| hub.insert(Sink(0))).collect();
    for &key in &keys {
        hub.subscribe(key, &name("a"), Encoding::Plain);
    }
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"hello"));
    assert_eq!(hub.pass(&mut || true).deliveries, 1_000_000);
    assert!(keys.iter().all(|&key| hub.outlet(key).is_some_and(|sink| sink.0 == 7)));
    for key in keys {
        hub.remove(key);
    }
    assert_eq!((hub.held_bytes(), hub.channel_count()), (0, 0));
}

/// A log that everyone has read keeps one small chunk and fills it again.
#[test]
fn a_log_that_is_read_keeps_one_small_chunk() {
    let mut hub = roomy_hub();
    let key = hub.insert(Sink(0));
    hub.subscribe(key, &name("a"), Encoding::Plain);
    hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000_000]));
    pass(&mut hub);
    assert_eq!(hub.held_bytes(), 0);
    for _ in 0..1_000 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 100]));
        pass(&mut hub);
        assert!(hub.held_bytes() <= CHUNK_BYTES_MIN + 8, "{}", hub.held_bytes());
    }
}

/// The memory a slow client held is freed when it has caught up or left.
#[test]
fn a_slow_clients_memory_is_freed() {
    for (leaves, passes) in [(false, true), (true, true), (false, false)] {
        let mut hub = roomy_hub();
        let (slow, fast) = (Pipe::with_room(10), Pipe::open());
        let keys = [hub.insert(slow.clone()), hub.insert(fast)];
        for key in keys {
            hub.subscribe(key, &name("a"), Encoding::Plain);
        }
        for _ in 0..1_000 {
            hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000]));
            pass(&mut hub);
        }
        assert!(hub.held_bytes() > 1_000_000);
        if leaves {
            hub.remove(keys[0]);
        } else {
            slow.make_room(usize::MAX);
            hub.writable(keys[0]);
        }
        assert!(hub.has_work(), "a pass is due, without any news");
        if passes {
            pass(&mut hub);
        } else {
            hub.relieve();
            hub.check();
        }
        assert!(hub.held_bytes() < 10_000, "{}", hub.held_bytes());
    }
}

/// Past the total budget the largest log is cut and the others are spared.
#[test]
fn past_the_total_budget_the_largest_log_is_cut() {
    let budget = Arc::new(Budget::new(1_000_000));
    let mut hub = Hub::new(settings(1 << 30, SlowPolicy::Close), Arc::clone(&budget));
    let (large, small) = (hub.insert(Pipe::with_room(1)), hub.insert(Pipe::with_room(1)));
    hub.subscribe(large, &name("large"), Encoding::Plain);
    hub.subscribe(small, &name("small"), Encoding::Plain);
    for number in 0..2_000 {
        hub.publish("large", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000]));
        if number % 10 == 0 {
            hub.publish("small", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000]));
        }
        pass(&mut hub);
        assert!(budget.used() <= 1_000_000);
    }
    let slow: Vec<Event> =
        events(&mut hub).into_iter().filter(|event| matches!(event, Event::Slow(_))).collect();
    assert_eq!(slow, [Event::Slow(large)]);
    drop(hub);
    assert_eq!(budget.used(), 0);
}

/// Memory is bounded whatever the number of channels and of stalled clients.
#[test]
fn memory_is_bounded_for_any_number_of_channels() {
    for policy in [SlowPolicy::Close, SlowPolicy::Skip] {
        let limit = 4_000_000;
        let budget = Arc::new(Budget::new(limit));
        let mut hub = Hub::new(settings(1 << 20, policy), Arc::clone(&budget));
        for number in 0..1_000 {
            for _ in 0..3 {
                let key = hub.insert(Pipe::with_room(7));
                hub.subscribe(key, &name(&format!("channel-{number}")), Encoding::Plain);
            }
        }
        let mut most = 0;
        for round in 0..40 {
            for number in 0..1_000 {
                let size = (round * 7_919 + number * 104_729) % 30_000;
                hub.publish(
                    &format!("channel-{number}"),
                    &mut Unchanged::new(Kind::Binary, &vec![0; size]),
                );
                most = most.max(budget.used());
            }
            hub.pass(&mut || true);
            hub.check();
        }
        assert!(most <= limit + CHUNK_BYTES_MAX, "{most}");
        assert!(most > limit / 2, "the budget is used: {most}");
    }
}

/// Memory that others hold is noticed on a tick, and this hub cuts its own.
#[test]
fn others_memory_is_noticed_on_a_tick() {
    let budget = Arc::new(Budget::new(1_000_000));
    let mut hub = Hub::new(settings(1 << 30, SlowPolicy::Skip), Arc::clone(&budget));
    let key = hub.insert(Pipe::with_room(1));
    hub.subscribe(key, &name("a"), Encoding::Plain);
    for _ in 0..500 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000]));
    }
    pass(&mut hub);
    assert!(hub.relieve());
    budget.charge(800_000);
    assert!(hub.relieve(), "half of what it had is enough");
    assert!(hub.held_bytes() > 0);
    budget.charge(800_000);
    assert!(!hub.relieve(), "nothing is left to cut");
    hub.check();
    assert!(hub.has_channel("a"));
    budget.release(1_600_000);
}
