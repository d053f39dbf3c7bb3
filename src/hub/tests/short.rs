//! Memory is short and very many clients have to be given up: some at a time, each with its Close
//! code, and without going past the limit meanwhile.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{
    SLOW_FRAME, events, name,
    pipe::{Pipe, frame},
    settings,
};
use crate::{
    hub::{Budget, Encoding, Event, Hub, Key, SlowPolicy, Source, Unchanged},
    limits::LAGGARDS_PER_PASS,
    position::Position,
    ws::Kind,
};

const AT_ONCE: usize = LAGGARDS_PER_PASS as usize;

fn hub(limit_bytes: usize, policy: SlowPolicy) -> (Arc<Budget>, Hub<Pipe>) {
    let budget = Arc::new(Budget::new(limit_bytes));
    (budget.clone(), Hub::new(settings(1 << 30, policy), budget))
}

fn client(hub: &mut Hub<Pipe>, room: usize) -> (Key, Pipe) {
    let pipe = Pipe::with_room(room);
    (hub.insert(pipe.clone()), pipe)
}

fn listener(hub: &mut Hub<Pipe>, channel: &str, room: usize) -> (Key, Pipe) {
    let (key, pipe) = client(hub, room);
    hub.subscribe(key, &name(channel), Encoding::Plain);
    (key, pipe)
}

/// The clients that were closed, or missed messages, since the last call; none by a reset.
fn gone(hub: &mut Hub<Pipe>) -> Vec<Key> {
    let of = |event| match event {
        Event::Slow(key) | Event::Skipped(key, ..) => Some(key),
        Event::Failed(..) => panic!("{event:?}"),
        _ => None,
    };
    let gone: Vec<Key> = events(hub).into_iter().filter_map(of).collect();
    assert!(gone.len() <= AT_ONCE, "{} at once", gone.len());
    gone
}

fn is_closed_in_order(pipe: &Pipe) -> bool {
    pipe.frames()
        .last()
        .is_some_and(|(opcode, payload)| *opcode == 0x8 && payload[..] == SLOW_FRAME[2..])
}

/// Laggards without any memory left for them are worked off pass by pass.
/// Regression: at the budget's limit all laggards of a log were cut in one go.
#[test]
fn laggards_are_worked_off_pass_by_pass() {
    const LAGGARDS: usize = 1_000;
    const LIMIT: usize = 8 << 20;
    for (policy, logs) in [(SlowPolicy::Close, 1), (SlowPolicy::Skip, 1), (SlowPolicy::Close, 40)] {
        let (budget, mut hub) = hub(LIMIT, policy);
        let channel = |number: usize| format!("c{}", number % logs);
        let laggards: Vec<_> =
            (0..LAGGARDS).map(|it| listener(&mut hub, &channel(it), 500)).collect();
        let (_, reader) = listener(&mut hub, "c0", usize::MAX);
        let (mut published, mut cut) = (0, 0);
        while cut < LAGGARDS {
            for number in 0..logs {
                let message = &mut Unchanged::new(Kind::Binary, &[b'x'; 4_000]);
                hub.publish(&channel(number), message);
                cut += gone(&mut hub).len();
                while hub.is_pressed() {
                    hub.pass(&mut || true);
                    cut += gone(&mut hub).len();
                }
                assert!(budget.used() <= LIMIT);
            }
            published += 1;
            hub.pass(&mut || true);
            assert!(budget.used() <= LIMIT);
            let now = gone(&mut hub).len();
            if now > 0 {
                hub.check();
            }
            cut += now;
            assert!(published < 10_000, "{cut} of {LAGGARDS}");
        }
        assert_eq!(reader.frames().len(), published);
        for (key, pipe) in &laggards {
            pipe.make_room(usize::MAX);
            hub.writable(*key);
            assert_eq!(is_closed_in_order(pipe), policy == SlowPolicy::Close, "whole frames");
        }
        hub.pass(&mut || true);
        hub.check();
    }
}

/// The clients with the most unread are given up round by round, without passes too.
/// Regression: clients that left too much unread were all given up in one go.
#[test]
fn those_with_most_unread_go_round_by_round() {
    const HOARDERS: usize = 1_000;
    const LIMIT: usize = 8 << 20;
    let (budget, mut hub) = hub(LIMIT, SlowPolicy::Skip);
    let hoarders: Vec<_> = (0..HOARDERS).map(|_| client(&mut hub, 0)).collect();
    let answer = frame(0x1, &[b'a'; 120]);
    let (mut all, mut rounds) = (0, 0);
    while all < HOARDERS / 2 {
        for (key, _) in &hoarders {
            hub.queue(*key, &[&answer]);
            assert!(budget.used() <= LIMIT, "{}", budget.used());
        }
        let mut now = gone(&mut hub).len();
        hub.tick();
        now += gone(&mut hub).len();
        while hub.owes_room() {
            hub.go_round();
            hub.check();
            now += gone(&mut hub).len();
        }
        all += now;
        rounds += usize::from(now > 0);
        assert!(rounds < 1_000 && now < HOARDERS / 2, "{now} of {HOARDERS}: no more than needed");
    }
    hub.check();
    for (key, pipe) in &hoarders {
        pipe.make_room(usize::MAX);
        hub.writable(*key);
        pipe.frames();
    }
    assert_eq!(hoarders.iter().filter(|(_, pipe)| is_closed_in_order(pipe)).count(), all);
}

fn give(hub: &mut Hub<Pipe>, key: Key, offset: u64, bytes: usize) {
    let position = Position { epoch: "e".into(), offset };
    let source = Source::Message(name("a"), position, Encoding::V1, 0);
    let header = crate::ws::frame::data_header(Kind::Text, bytes);
    hub.queue_shared(key, header.as_ref(), source, || Bytes::from(vec![b'x'; bytes]));
}

/// A client that is given up in the middle of a shared message gets its end and the Close frame.
/// Regression: it was reset instead of closed.
#[test]
fn a_client_given_up_amid_a_message_gets_its_end() {
    const LIMIT: usize = 8 << 20;
    const LONG: usize = 100_000;
    let (budget, mut hub) = hub(LIMIT, SlowPolicy::Close);
    let (reader, read) = listener(&mut hub, "a", 10);
    hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'y'; 500_000]));
    let mut hoarders = HashMap::new();
    let mut all = 0;
    for number in 0..300 {
        let (key, pipe) = client(&mut hub, 50_000);
        give(&mut hub, key, number, LONG);
        give(&mut hub, key, number + 1_000, LONG);
        hoarders.insert(key, pipe);
        hub.pass(&mut || true);
        hub.check();
        assert!(budget.used() <= LIMIT);
        for key in gone(&mut hub) {
            let pipe = &hoarders[&key];
            pipe.make_room(usize::MAX);
            hub.writable(key);
            let frames = pipe.frames();
            assert_eq!(frames.len(), 2, "the message that it had begun, and its Close frame");
            assert_eq!((frames[0].1.len(), is_closed_in_order(pipe)), (LONG, true));
            all += 1;
        }
    }
    assert!(all > 100, "{all}");
    read.make_room(usize::MAX);
    hub.writable(reader);
    assert_eq!(read.frames().len(), 1, "who is behind in a log pays nothing");
}

/// Past the limit, clients that are closing are not waited for.
#[test]
fn past_the_limit_closing_clients_are_cut() {
    const LIMIT: usize = 8 << 20;
    let (budget, mut hub) = hub(LIMIT, SlowPolicy::Close);
    let (reader, read) = listener(&mut hub, "a", 10);
    hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'y'; 500_000]));
    let (mut closed, mut failed) = (0, 0);
    for number in 0..300 {
        let (key, _) = client(&mut hub, 50_000);
        give(&mut hub, key, number, 100_000);
        hub.pass(&mut || true);
        hub.check();
        assert!(budget.used() <= LIMIT, "{}", budget.used());
        for event in events(&mut hub) {
            closed += usize::from(matches!(event, Event::Slow(_)));
            failed += usize::from(matches!(event, Event::Failed(..)));
        }
    }
    assert!(failed > 100 && closed >= failed, "{failed} of {closed}");
    read.make_room(usize::MAX);
    hub.writable(reader);
    assert_eq!(read.frames().len(), 1, "who is behind in a log pays nothing");
}
