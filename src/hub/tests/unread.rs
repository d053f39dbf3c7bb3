//! Clients' own output that is left unread: bounded, and paid for by those that hold it.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;

use super::{
    SLOW_FRAME, events, name,
    pipe::{Pipe, frame},
    roomy_hub, settings,
};
use crate::{
    hub::{Budget, Encoding, Event, Hub, Key, SlowPolicy, Source, Unchanged},
    limits::OUTBOX_STALE_TICKS,
    position::Position,
    ws::Kind,
};

/// A message of a history.
fn source(offset: u64) -> Source {
    let position = Position { epoch: "e".into(), offset };
    Source::Message(name("a"), position, Encoding::Sse, 0)
}

fn client(hub: &mut Hub<Pipe>, room: usize) -> (Key, Pipe) {
    let pipe = Pipe::with_room(room);
    (hub.insert(pipe.clone()), pipe)
}

/// All clients that were closed or failed since the last call.
fn ended(hub: &mut Hub<Pipe>) -> HashSet<Key> {
    let of = |event| match event {
        Event::Slow(key) | Event::Failed(key, _) => Some(key),
        _ => None,
    };
    events(hub).into_iter().filter_map(of).collect()
}

/// Regression: 1,800 event streams that never read a message of 1 MB held 1.7 GiB.
#[test]
fn clients_with_the_same_history_share_its_memory() {
    let mut hub = roomy_hub();
    let message = Bytes::from(vec![b'x'; 1 << 20]);
    let clients: Vec<_> = (0..1_800).map(|_| client(&mut hub, 100)).collect();
    for &(key, _) in &clients {
        hub.queue_shared(key, b"", source(1), || message.clone());
    }
    assert!(events(&mut hub).contains(&Event::Blocked(clients[7].0)));
    let held = hub.held_bytes();
    assert!(held < (1 << 20) + 1_800 * 512, "{held}");
    let (last, pipe) = &clients[7];
    for (key, _) in clients.iter().filter(|(key, _)| key != last) {
        hub.remove(*key);
    }
    hub.check();
    pipe.make_room(usize::MAX);
    hub.writable(*last);
    assert_eq!(pipe.0.borrow().received, message);
    hub.check();
    assert_eq!(hub.held_bytes(), 0);
}

/// A client that leaves more unread than the backlog is closed behind the frame it has begun.
#[test]
fn a_client_with_too_much_unread_is_closed() {
    let mut hub = Hub::new(settings(10_000, SlowPolicy::Skip), Arc::new(Budget::new(1 << 30)));
    let (key, pipe) = client(&mut hub, 50);
    let (reader, read) = client(&mut hub, usize::MAX);
    let answer = frame(0x1, &[b'a'; 98]);
    for _ in 0..200 {
        hub.queue(key, &[&answer]);
        hub.queue(reader, &[&answer]);
        hub.check();
        assert!(hub.unread(key) <= 10_000 + 100, "{}", hub.unread(key));
    }
    assert_eq!(ended(&mut hub), HashSet::from([key]));
    assert_eq!(read.frames().len(), 200, "who reads gets all of it, though it was queued at once");
    pipe.make_room(usize::MAX);
    hub.writable(key);
    let frames = pipe.frames();
    assert_eq!(frames.last().unwrap(), &(0x8, SLOW_FRAME[2..].to_vec()));
    assert_eq!(frames.len(), 2, "of the answers the one that was begun");
}

/// A message longer than the backlog makes no client slow that reads it.
/// Regression: with `--backlog 256KiB`, a message of 128 KiB that took 768 KiB as JSON, and another
/// one after it, closed all their readers at once.
#[test]
fn a_message_longer_than_the_backlog_is_read() {
    const LONG: usize = 200_000;
    let mut hub = Hub::new(settings(50_000, SlowPolicy::Close), Arc::new(Budget::new(1 << 30)));
    let clients: Vec<_> = (0..3).map(|_| client(&mut hub, LONG - 50_000)).collect();
    for (key, _) in &clients {
        hub.subscribe(*key, &name("a"), Encoding::V1);
    }
    for round in 0..10 {
        // It reads at once, and has not received all of it when the next one comes.
        hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; LONG]));
        hub.pass(&mut || true);
        hub.check();
        assert_eq!(ended(&mut hub), HashSet::new());
        for (key, pipe) in clients.iter().filter(|_| round > 0) {
            pipe.make_room(LONG);
            hub.writable(*key);
        }
    }
    for (_, pipe) in &clients {
        pipe.make_room(0);
    }
    for _ in 0..10 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; LONG]));
        hub.pass(&mut || true);
    }
    assert_eq!(ended(&mut hub).len(), 3, "who does not read is slow");
}

/// The clients that hold the most unread go, and nobody pays for a stranger.
/// Regression: 3,000 clients of wsbcast.v1 that read no answers held 718 MiB, and clients that were
/// behind in a log, within their bounds, were cut for it.
#[test]
fn those_with_the_most_unread_go() {
    const LIMIT: usize = 1 << 20;
    let budget = Arc::new(Budget::new(LIMIT));
    let mut hub = Hub::new(settings(LIMIT, SlowPolicy::Close), budget.clone());
    let (behind, behind_pipe) = client(&mut hub, 10);
    hub.subscribe(behind, &name("a"), Encoding::Plain);
    for _ in 0..400 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000]));
    }
    hub.pass(&mut || true);
    let (small, _) = client(&mut hub, 0);
    hub.queue(small, &[&frame(0x1, &[b's'; 120])]);
    let (resumes, resumes_pipe) = client(&mut hub, 100);
    hub.queue_shared(resumes, b"", source(1), || Bytes::from(vec![b'x'; 100_000]));
    let hoarders: Vec<_> = (0..100).map(|_| client(&mut hub, 0)).collect();
    let answer = frame(0x1, &[b'a'; 98]);
    let mut gone = HashSet::new();
    for _ in 0..200 {
        for (key, _) in &hoarders {
            hub.queue(*key, &[&answer]);
            assert!(budget.used() <= LIMIT, "{}", budget.used());
        }
        hub.check();
        gone.extend(ended(&mut hub));
    }
    let hoarder_keys: HashSet<_> = hoarders.iter().map(|(key, _)| *key).collect();
    assert!(gone.len() > 20 && gone.is_subset(&hoarder_keys), "{gone:?}");
    let (key, pipe) = hoarders.iter().find(|(key, _)| gone.contains(key)).unwrap();
    pipe.make_room(usize::MAX);
    hub.writable(*key);
    assert_eq!(pipe.frames(), [(0x8, SLOW_FRAME[2..].to_vec())], "each with its Close code");
    behind_pipe.make_room(usize::MAX);
    hub.writable(behind);
    assert_eq!(behind_pipe.frames().len(), 400);
    resumes_pipe.make_room(usize::MAX);
    hub.writable(resumes);
    assert_eq!(resumes_pipe.0.borrow().received.len(), 100_000);
}

/// A client that pins forgotten history without reading goes before one that reads it.
#[test]
fn a_client_pinning_old_history_goes_first() {
    const LIMIT: usize = 1 << 20;
    let budget = Arc::new(Budget::new(LIMIT));
    let mut hub = Hub::new(settings(LIMIT, SlowPolicy::Close), budget.clone());
    let give = |hub: &mut Hub<Pipe>, key, offset, bytes| {
        hub.queue_shared(key, b"", source(offset), || Bytes::from(vec![b'x'; bytes]));
    };
    let (reader, pipe) = client(&mut hub, 100);
    give(&mut hub, reader, 1, 100_000);
    let mut pinners = HashSet::new();
    let mut gone = HashSet::new();
    for round in 0..40 {
        let (key, _) = client(&mut hub, 100);
        pinners.insert(key);
        give(&mut hub, key, 2 + round, 50_000);
        for _ in 0..OUTBOX_STALE_TICKS {
            pipe.make_room(100);
            hub.writable(reader);
            hub.tick();
        }
        // The memory of other hubs, without which it would not be too much.
        if budget.used() > LIMIT / 2 {
            let rest = LIMIT - budget.used() + 1;
            budget.charge(rest);
            hub.tick();
            budget.release(rest);
        }
        hub.check();
        gone.extend(ended(&mut hub));
    }
    assert!(gone.len() > 20 && gone.is_subset(&pinners), "{}", gone.len());
}

/// A hub that holds no more than its share waits for those that do.
#[test]
fn a_hub_within_its_share_waits_for_the_others() {
    let budget = Arc::new(Budget::new(1_000_000));
    let mut hubs = [0, 1].map(|_| Hub::new(settings(1 << 30, SlowPolicy::Close), budget.clone()));
    let pipes = [0, 1].map(|_| Pipe::with_room(1));
    for (hub, pipe) in hubs.iter_mut().zip(&pipes) {
        let key = hub.insert(pipe.clone());
        hub.subscribe(key, &name("a"), Encoding::Plain);
    }
    let [within, beyond] = &mut hubs;
    let publish = |hub: &mut Hub<Pipe>, count| {
        for _ in 0..count {
            hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 1_000]));
        }
    };
    publish(within, 100);
    publish(beyond, 600);
    publish(within, 200);
    assert!(budget.is_tight());
    within.tick();
    assert_eq!(ended(within), HashSet::new());
    beyond.tick();
    assert!(!budget.is_tight());
    within.tick();
    assert_eq!(ended(within), HashSet::new(), "it never was the one to pay");
    assert_eq!(ended(beyond).len(), 1);
}
