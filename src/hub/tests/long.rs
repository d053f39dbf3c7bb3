//! Messages whose encodings together are longer than the memory allowed.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    SLOW_FRAME, events, name, pass,
    pieces::{self, PIECE_BYTES, WRITTEN},
    pipe::{Pipe, frame},
    settings,
};
use crate::{
    hub::{Budget, Encode, Encoding, Event, Hub, Key, LaidOut, SlowPolicy, Source, Unchanged},
    limits::{CARRY_COPY_BYTES_MAX, ENCODED_WHOLE_BYTES_MAX, LONG_WINDOW_BYTES_MIN},
    position::Position,
    ws::{Kind, frame::data_header},
};

const PAYLOAD_BYTES: usize = 200_000;
/// Seven times as much and a little more: the largest encoding just fits.
const LIMIT: usize = 8 * PAYLOAD_BYTES;
const ENCODINGS: [Encoding; 3] = [Encoding::Plain, Encoding::V1, Encoding::Sse];

/// No piece is equal to the one before or after it.
fn payload() -> Bytes {
    (0..PAYLOAD_BYTES).map(|place| ((place % 251) ^ (place / 251)) as u8).collect()
}

/// A message of which each byte takes several in some encodings.
struct Swelling(Bytes, Vec<u8>);

impl Swelling {
    fn new() -> Self {
        Self(payload(), Vec::new())
    }
}

fn swollen(encoding: Encoding, payload: &[u8]) -> Vec<u8> {
    let times = if encoding == Encoding::Sse { 7 } else { 2 };
    let times = if encoding == Encoding::Plain { 1 } else { times };
    let payload: Vec<u8> = payload.iter().flat_map(|byte| vec![*byte; times]).collect();
    let header = data_header(Kind::Binary, payload.len());
    [header.as_ref(), &payload].concat()
}

fn laid_out(encoding: Encoding, payload: &Bytes) -> LaidOut {
    pieces::laid_out(swollen(encoding, payload), payload)
}

impl Encode for Swelling {
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2] {
        self.1 = swollen(encoding, &self.0);
        [&self.1, &[]]
    }

    fn payload_bytes(&self) -> usize {
        self.0.len()
    }

    fn lay_out(&mut self, encoding: Encoding) -> Option<LaidOut> {
        Some(laid_out(encoding, &self.0))
    }
}

fn hub(backlog_bytes: usize, budget: &Arc<Budget>) -> Hub<Pipe> {
    Hub::new(settings(backlog_bytes, SlowPolicy::Close), budget.clone())
}

fn client(hub: &mut Hub<Pipe>, room: usize, encoding: Encoding) -> (Key, Pipe) {
    let pipe = Pipe::with_room(room);
    let key = hub.insert(pipe.clone());
    hub.subscribe(key, &name("a"), encoding);
    (key, pipe)
}

fn source() -> Source {
    let position = Position { epoch: "e".into(), offset: 1 };
    Source::Message(name("a"), position, Encoding::Sse, 0)
}

/// A client that reads at once gets a message of which all encodings together have no room.
#[test]
fn a_prompt_reader_gets_a_message_too_long_for_all() {
    let budget = Arc::new(Budget::new(LIMIT));
    let mut hubs: Vec<_> = (0..4).map(|_| hub(LIMIT / 2, &budget)).collect();
    // Each of them takes a little at a time, as a kernel does.
    let clients = hubs.iter_mut().map(|hub| {
        let clients = ENCODINGS.into_iter().flat_map(|encoding| [encoding; 3]);
        clients.map(|encoding| (encoding, client(hub, 30_000, encoding))).collect::<Vec<_>>()
    });
    let clients: Vec<_> = clients.collect();
    for round in 1..=2 {
        let mut message = Swelling::new();
        for hub in &mut hubs {
            assert!(hub.publish("a", &mut message));
            pass(hub);
        }
        let payload = message.0.clone();
        let used = budget.used();
        assert!(used < PAYLOAD_BYTES + PAYLOAD_BYTES / 4, "the payload once for all: {used}");
        // Three times the length in windows.
        for _ in 0..7 * PAYLOAD_BYTES / LONG_WINDOW_BYTES_MIN * 3 + 3 {
            for (hub, clients) in hubs.iter_mut().zip(&clients) {
                clients.iter().for_each(|(_, (key, pipe))| {
                    pipe.make_room(30_000);
                    hub.writable(*key);
                });
                hub.tick();
                hub.check();
                let is_calm =
                    |event: &Event| matches!(event, Event::Blocked(_) | Event::Drained(_));
                assert!(events(hub).iter().all(is_calm), "nobody is slow");
            }
        }
        for (encoding, (_, pipe)) in clients.iter().flatten() {
            let expected = swollen(*encoding, &payload).repeat(round);
            assert!(pipe.0.borrow().received == expected, "{encoding:?}");
        }
        for hub in &mut hubs {
            pass(hub);
        }
        assert_eq!(budget.used(), 0, "it is given back");
    }
}

/// A message that records the encodings in which it was asked for as a whole.
struct Asked(Swelling, Vec<Encoding>);

impl Encode for Asked {
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2] {
        self.1.push(encoding);
        self.0.encode(encoding)
    }

    fn payload_bytes(&self) -> usize {
        self.0.payload_bytes()
    }

    fn lay_out(&mut self, encoding: Encoding) -> Option<LaidOut> {
        self.0.lay_out(encoding)
    }
}

/// A large message is only copied in one go also where there is room for its encodings.
/// Regression: 16 MiB were compressed, or made JSON, in one go, and a shard stood still meanwhile.
#[test]
fn a_large_message_is_copied_in_one_go() {
    let budget = Arc::new(Budget::new(1 << 30));
    let mut hub = hub(1 << 29, &budget);
    let clients = ENCODINGS.map(|encoding| (encoding, client(&mut hub, usize::MAX, encoding)));
    for (bytes, whole) in [(ENCODED_WHOLE_BYTES_MAX, 3), (ENCODED_WHOLE_BYTES_MAX + 1, 1)] {
        let mut message = Asked(Swelling(vec![b'x'; bytes].into(), Vec::new()), Vec::new());
        hub.publish("a", &mut message);
        let Asked(Swelling(payload, _), asked) = &message;
        assert!(asked.contains(&Encoding::Plain), "{bytes} B");
        assert_eq!(asked.len(), whole, "{bytes} B");
        pass(&mut hub);
        for (encoding, (key, pipe)) in &clients {
            while hub.is_blocked(*key) {
                hub.writable(*key);
            }
            let expected = swollen(*encoding, payload);
            assert!(pipe.0.borrow().received.ends_with(&expected), "{encoding:?}");
        }
    }
}

/// A slow client in the middle of a long frame gets its end and the Close frame.
#[test]
fn a_client_slow_amid_a_long_frame_gets_its_end() {
    let length = swollen(Encoding::V1, &payload()).len();
    // The rest is large, or so small that it is copied: of two pieces, or of the last one.
    for room in [123_456, length - CARRY_COPY_BYTES_MAX, length - 5] {
        gets_its_end_and_the_close_frame(room);
    }
}

/// The slow client has `room` for a part of the first message.
fn gets_its_end_and_the_close_frame(room: usize) {
    let budget = Arc::new(Budget::new(LIMIT));
    let mut hub = hub(100_000, &budget);
    let (slow, pipe) = client(&mut hub, room, Encoding::V1);
    let (reader, other) = client(&mut hub, usize::MAX, Encoding::V1);
    let mut expected = Vec::new();
    for _ in 0..3 {
        let mut message = Swelling::new();
        expected.extend(swollen(Encoding::V1, &message.0));
        hub.publish("a", &mut message);
        pass(&mut hub);
        while hub.is_blocked(reader) {
            hub.writable(reader);
        }
    }
    assert!(events(&mut hub).contains(&Event::Slow(slow)), "it is more than two behind");
    let held = hub.held_bytes();
    assert!(held < 2 * PAYLOAD_BYTES, "the end is kept as a payload: {held}");
    while hub.is_blocked(slow) {
        pipe.make_room(70_000);
        hub.writable(slow);
        hub.check();
    }
    assert!(events(&mut hub).contains(&Event::CloseSent(slow)));
    let end = [&expected[..expected.len() / 3], SLOW_FRAME].concat();
    assert!(
        pipe.0.borrow().received == end,
        "{room}: the end of what it has begun, then the close"
    );
    assert!(other.0.borrow().received == expected, "who reads is not");
    pass(&mut hub);
    assert_eq!(budget.used(), 0);
}

/// A long message of a history is written while it is read among what else a client is told.
#[test]
fn a_long_message_of_a_history_is_written_in_turns() {
    let budget = Arc::new(Budget::new(LIMIT));
    let mut hub = hub(LIMIT, &budget);
    let payload = payload();
    let source = source();
    let clients: Vec<_> = (0..5).map(|_| client(&mut hub, 50_000, Encoding::Sse)).collect();
    for &(key, _) in &clients {
        hub.queue(key, &[&frame(0x1, b"before")]);
        hub.queue_long(key, source.clone(), || laid_out(Encoding::Sse, &payload));
        hub.queue(key, &[&frame(0x1, b"behind")]);
    }
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"live"));
    pass(&mut hub);
    assert!(budget.used() < 2 * PAYLOAD_BYTES + PAYLOAD_BYTES / 4, "{}", budget.used());
    let encoded = swollen(Encoding::Sse, &payload);
    let parts = [frame(0x1, b"before"), encoded, frame(0x1, b"behind"), frame(0x1, b"live")];
    for (key, pipe) in &clients {
        while hub.is_blocked(*key) {
            pipe.make_room(60_000);
            hub.writable(*key);
            hub.check();
        }
        assert!(pipe.0.borrow().received == parts.concat());
    }
    pass(&mut hub);
    assert!(events(&mut hub).iter().all(|it| matches!(it, Event::Blocked(_) | Event::Drained(_))));
}

/// Clients that take all of a long encoding get it in turns, and it is written once for them.
/// For one client that takes all it is offered, an encoding of 96 MiB kept a shard busy for a
/// second and a half, in which no other client was served; and each client had it written anew.
#[test]
fn readers_of_a_long_encoding_get_it_in_turns() {
    let mut message = Swelling::new();
    let encoded = swollen(Encoding::Sse, &message.0);
    let turn = LONG_WINDOW_BYTES_MIN + PIECE_BYTES;
    for is_live in [true, false] {
        let mut hub = hub(LIMIT, &Arc::new(Budget::new(LIMIT)));
        let clients = [(); 3].map(|()| client(&mut hub, usize::MAX, Encoding::Sse));
        let (source, payload) = (source(), message.0.clone());
        WRITTEN.set(0);
        if is_live {
            hub.publish("a", &mut message);
        } else {
            let laid_out = || laid_out(Encoding::Sse, &payload);
            clients.iter().for_each(|(key, _)| hub.queue_long(*key, source.clone(), laid_out));
        }
        // Each pass stops after one client.
        while hub.pass(&mut || false).more {}
        let mut before = [0; 3];
        loop {
            hub.check();
            let after = clients.each_ref().map(|(_, pipe)| pipe.0.borrow().received.len());
            for (before, after) in before.iter().zip(after) {
                assert!((1..=turn).contains(&(after - before)), "a turn: {before} to {after}");
            }
            if !clients.iter().any(|(key, _)| hub.is_blocked(*key)) {
                break;
            }
            before = after;
            let told = events(&mut hub);
            for (key, _) in clients.iter().filter(|(key, _)| hub.is_blocked(*key)) {
                assert!(told.contains(&Event::Blocked(*key)), "it is asked again");
            }
            clients.iter().for_each(|(key, _)| hub.writable(*key));
        }
        assert!(clients.iter().all(|(_, pipe)| pipe.0.borrow().received == encoded));
        assert_eq!(WRITTEN.get(), encoded.len().div_ceil(PIECE_BYTES), "each piece once");
    }
}
