//! Many channels: the cost of one does not grow with their number. Many clients of one channel:
//! work that is due to all of them at once leaves others their turn.

use std::sync::Arc;

use super::{
    events, name, pass,
    pipe::{Pipe, frame},
    roomy_hub, settings,
};
use crate::{
    hub::{Budget, Encoding, Event, Hub, Key, SlowPolicy, Unchanged},
    limits::{CHANNELS_PER_CLIENT_MAX, CHUNK_BYTES_MAX, LAGGARDS_PER_PASS, PARTING_PER_PASS},
    ws::Kind,
};

const CHANNELS: usize = 10_000;

/// A client of its own for each of the channels.
fn crowd(hub: &mut Hub<Pipe>, channels: usize, room: usize) -> Vec<(Key, Pipe)> {
    let client = |number: usize| {
        let pipe = Pipe::with_room(room);
        let key = hub.insert(pipe.clone());
        assert!(hub.subscribe(key, &name(&format!("c{number}")), Encoding::Plain));
        (key, pipe)
    };
    (0..channels).map(client).collect()
}

fn publish(hub: &mut Hub<Pipe>, number: usize, payload: &[u8]) {
    assert!(hub.publish(&format!("c{number}"), &mut Unchanged::new(Kind::Text, payload)));
}

/// Ten thousand channels with a client each are served in one pass and leave.
#[test]
fn ten_thousand_channels_are_served_in_one_pass() {
    let mut hub = roomy_hub();
    let clients = crowd(&mut hub, CHANNELS, usize::MAX);
    assert_eq!(hub.log_count(), CHANNELS);
    for round in 0..3 {
        for number in 0..CHANNELS {
            publish(&mut hub, number, format!("{number} {round}").as_bytes());
        }
        let done = hub.pass(&mut || true);
        assert_eq!((done.more, done.deliveries), (false, CHANNELS as u64));
    }
    for (number, (key, pipe)) in clients.into_iter().enumerate() {
        assert_eq!(pipe.texts(), [0, 1, 2].map(|round| format!("{number} {round}")));
        hub.remove(key);
        assert_eq!(hub.take_abandoned(), Some(name(&format!("c{number}"))));
    }
    assert_eq!((hub.log_count(), hub.held_bytes()), (0, 0));
}

/// Stalled clients of two thousand channels stay within the budget.
#[test]
fn stalled_clients_stay_within_the_budget() {
    const BUDGET: usize = 2 << 20;
    const STALLED: usize = 2000;
    let budget = Arc::new(Budget::new(BUDGET));
    let mut hub = Hub::new(settings(1 << 30, SlowPolicy::Skip), budget.clone());
    let clients = crowd(&mut hub, STALLED, 0);
    let payload = [b'x'; 1000];
    for _ in 0..10 {
        for number in 0..STALLED {
            // A channel has ended if its client was given up for the memory.
            hub.publish(&format!("c{number}"), &mut Unchanged::new(Kind::Text, &payload));
        }
        hub.pass(&mut || true);
        events(&mut hub);
        assert!(budget.used() <= BUDGET, "{}", budget.used());
    }
    drop(clients);
}

/// One client of a thousand channels gets all of them and leaves them in any order.
#[test]
fn one_client_gets_a_thousand_channels() {
    let mut hub = roomy_hub();
    let pipes = [Pipe::open(), Pipe::open()];
    let keys = pipes.each_ref().map(|pipe| hub.insert(pipe.clone()));
    for number in 0..CHANNELS_PER_CLIENT_MAX {
        for key in keys {
            hub.subscribe(key, &name(&format!("c{number}")), Encoding::Plain);
        }
    }
    assert_eq!(keys.map(|key| hub.subscription_count(key)), [CHANNELS_PER_CLIENT_MAX; 2]);
    for number in 0..CHANNELS_PER_CLIENT_MAX {
        publish(&mut hub, number, b"all");
    }
    assert_eq!(pass(&mut hub).deliveries, 2 * CHANNELS_PER_CLIENT_MAX as u64);
    let mut left: Vec<usize> = (0..CHANNELS_PER_CLIENT_MAX).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut left);
    for &number in &left {
        assert!(hub.leave(keys[0], &format!("c{number}")));
        assert!(!hub.leave(keys[0], &format!("c{number}")));
    }
    hub.check();
    publish(&mut hub, 5, b"one more");
    pass(&mut hub);
    assert_eq!(pipes[0].texts().len(), CHANNELS_PER_CLIENT_MAX);
    assert_eq!(pipes[1].texts().len(), CHANNELS_PER_CLIENT_MAX + 1);
    hub.remove(keys[1]);
    assert_eq!(hub.log_count(), 0);
}

/// The client that keeps the most logs alone is known, and what many hear is nobody's.
#[test]
fn the_holder_of_the_most_logs_is_known() {
    let mut hub = roomy_hub();
    hub.channels_free = 1;
    let join = |hub: &mut Hub<Pipe>, names: &[String]| {
        let key = hub.insert(Pipe::open());
        for channel in names {
            hub.subscribe(key, &name(channel), Encoding::Plain);
        }
        hub.check();
        key
    };
    let names = |who: &str, count| (0..count).map(|n| format!("{who}{n}")).collect::<Vec<_>>();
    assert_eq!(hub.hoarder(), None);
    let many: Vec<Key> = (0..20).map(|_| join(&mut hub, &names("shared", 300))).collect();
    let one = join(&mut hub, &names("one", 100));
    let twins = [(); 2].map(|()| join(&mut hub, &names("twin", 190)));
    // The first of the sharing clients is found until its logs are attributed to the others.
    let found = std::iter::repeat_with(|| hub.hoarder().unwrap()).find(|found| found.1 > 20);
    assert_eq!(found, Some((twins[0], 95)), "half of what two hear is each one's");
    hub.check();
    hub.remove(twins[0]);
    hub.check();
    assert_eq!(hub.hoarder(), Some((twins[1], 190)), "then it is the other's");
    hub.remove(twins[1]);
    assert_eq!(hub.hoarder(), Some((one, 100)));
    hub.remove(one);
    for key in many {
        hub.remove(key);
        hub.check();
    }
    assert_eq!(hub.hoarder(), None);
}

/// Clients of one channel.
fn listeners(hub: &mut Hub<Pipe>, count: usize, room: usize) -> Vec<(Key, Pipe)> {
    let client = |_| {
        let pipe = Pipe::with_room(room);
        let key = hub.insert(pipe.clone());
        hub.subscribe(key, &name("a"), Encoding::Plain);
        (key, pipe)
    };
    (0..count).map(client).collect()
}

fn publish_long(hub: &mut Hub<Pipe>) {
    hub.publish("a", &mut Unchanged::new(Kind::Binary, &[b'x'; 1_000]));
}

/// Clients that are cut off together are worked off pass by pass, and others are served in between.
/// 3,000 clients that fell behind together were cut in one go.
#[test]
fn clients_cut_off_together_are_worked_off_in_passes() {
    const LAGGARDS: usize = 1_000;
    const BACKLOG: usize = 100_000;
    for policy in [SlowPolicy::Close, SlowPolicy::Skip] {
        let mut hub = Hub::new(settings(BACKLOG, policy), Arc::new(Budget::new(1 << 30)));
        let laggards = listeners(&mut hub, LAGGARDS, 500);
        let reader = listeners(&mut hub, 1, usize::MAX);
        let (mut published, mut cut, mut rounds) = (0, 0, 0);
        while cut < LAGGARDS {
            publish_long(&mut hub);
            published += 1;
            hub.check();
            hub.pass(&mut || true);
            hub.check();
            assert_eq!(reader[0].1.frames().len(), published);
            let is_cut = |event: &Event| matches!(event, Event::Slow(_) | Event::Skipped(..));
            let now = events(&mut hub).iter().filter(|&event| is_cut(event)).count();
            // Some are closed by the publication, some by the pass.
            assert!(now <= 2 * LAGGARDS_PER_PASS as usize, "{now} at once");
            cut += now;
            rounds += usize::from(now > 0);
            assert!(published < 1_000, "{cut} of {LAGGARDS}");
        }
        assert!(rounds >= 4, "{rounds}");
        hub.pass(&mut || true);
        let most = BACKLOG + 2 * CHUNK_BYTES_MAX + LAGGARDS * 2_000;
        assert!(hub.held_bytes() < most, "{}", hub.held_bytes());
        for (key, pipe) in &laggards {
            pipe.make_room(usize::MAX);
            hub.writable(*key);
            let frames = pipe.frames();
            let is_closed = frames.last().is_some_and(|(opcode, _)| *opcode == 0x8);
            assert_eq!(is_closed, policy == SlowPolicy::Close, "whole frames to the end");
        }
        hub.pass(&mut || true);
        hub.check();
        assert!(!hub.has_work());
    }
}

/// A client that reads while others are worked off is not slow.
#[test]
fn a_reader_is_not_slow_while_others_are_served() {
    const LAGGARDS: usize = 400;
    let budget = Arc::new(Budget::new(1 << 30));
    let mut hub = Hub::new(settings(100_000, SlowPolicy::Close), budget);
    let laggards = listeners(&mut hub, LAGGARDS, 500);
    while events(&mut hub).iter().all(|event| !matches!(event, Event::Slow(_))) {
        publish_long(&mut hub);
        if !hub.cuts.is_empty() {
            break;
        }
        hub.pass(&mut || true);
    }
    for (key, pipe) in &laggards {
        pipe.make_room(usize::MAX);
        hub.writable(*key);
    }
    while hub.pass(&mut || true).more {}
    hub.check();
    let slow = events(&mut hub).iter().filter(|it| matches!(it, Event::Slow(_))).count();
    assert!((1..=LAGGARDS_PER_PASS as usize).contains(&slow), "{slow}");
    assert!(hub.held_bytes() < CHUNK_BYTES_MAX, "{}", hub.held_bytes());
}

/// Clients that a gap closes together part in slices, and get nothing behind it.
#[test]
fn clients_closed_by_a_gap_part_in_slices() {
    const CLIENTS: usize = 3_000;
    let mut hub = roomy_hub();
    let clients = listeners(&mut hub, CLIENTS, usize::MAX);
    publish_long(&mut hub);
    let close = frame(0x8, &[3, 232]);
    hub.close_channel("a", &close);
    hub.check();
    let newcomer = listeners(&mut hub, 1, usize::MAX);
    publish_long(&mut hub);
    let is_told = |pipe: &Pipe| !pipe.frames().is_empty();
    let count = || clients.iter().filter(|(_, pipe)| is_told(pipe)).count();
    assert!(events(&mut hub).is_empty() && count() == 0, "nobody parts in the same go");
    let (mut parting, mut slices) = (0, 0);
    loop {
        let mut visits = 100;
        let whole = slices % 2 == 0;
        let pass = hub.pass(&mut || {
            visits -= 1;
            whole || visits > 0
        });
        hub.check();
        let now = events(&mut hub).iter().filter(|it| matches!(it, Event::Parting(_))).count();
        assert!(now <= if whole { PARTING_PER_PASS as usize } else { 100 }, "{now}");
        parting += now;
        slices += 1;
        publish_long(&mut hub);
        if parting == CLIENTS && !pass.more {
            break;
        }
        assert!(slices < 1_000, "{parting} and {}", count());
    }
    hub.pass(&mut || true);
    for (_, pipe) in &clients {
        let opcodes: Vec<u8> = pipe.frames().iter().map(|(opcode, _)| *opcode).collect();
        assert_eq!(opcodes, [0x2, 0x8], "what came before it, then the Close");
    }
    assert_eq!(newcomer[0].1.frames().len(), slices + 1, "who came after it stays");
}

#[test]
fn no_channel_waits_for_all_clients_of_another() {
    let mut hub = roomy_hub();
    for _ in 0..100 {
        let key = hub.insert(Pipe::with_room(usize::MAX));
        hub.subscribe(key, &name("long"), Encoding::Plain);
    }
    let clients = crowd(&mut hub, 3, usize::MAX);
    assert!(hub.publish("long", &mut Unchanged::new(Kind::Text, &[b'x'; 60_000])));
    for number in 0..3 {
        publish(&mut hub, number, b"short");
    }
    // Each call ends with the first client.
    let mut calls = 0;
    while !clients.iter().all(|(_, pipe)| pipe.texts() == ["short"]) {
        assert!(hub.pass(&mut || false).more);
        hub.check();
        calls += 1;
    }
    assert!(calls <= 4, "{calls} turns");
    let mut swept = 0;
    loop {
        let pass = hub.pass(&mut || false);
        swept += u32::from(pass.swept);
        if !pass.more {
            break;
        }
    }
    assert_eq!(swept, 1, "all have been visited once");
}
