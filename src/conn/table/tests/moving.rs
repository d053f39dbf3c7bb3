//! Clients amid anything go on in another table, as they do in another process.

use super::*;
use crate::{conn::TablesTaking, token::Rights};

/// The messages that a client publishes by what it has sent.
fn told_of(table: &mut Table, key: Key, now: Millis) -> Vec<String> {
    let requests = requests_of(table, key, now);
    told(table, requests, key)
}

fn requests_of(table: &mut Table, key: Key, now: Millis) -> Vec<Request> {
    let mut requests = Vec::new();
    table.read_until(key, now, |table| {
        requests.append(&mut table.clients.take_requests());
        !requests.is_empty()
    });
    requests
}

/// A client that has published three messages, in a table halted when the first was under way.
fn halted_amid_the_first(table: &mut Table) -> (Key, TcpStream, Vec<Request>) {
    let (key, mut peer) = table.client(Millis(0));
    let three: Vec<u8> = [&b"a"[..], b"b", b"c"].map(|text| masked(0x81, text)).concat();
    peer.write_all(&three).unwrap();
    let requests = requests_of(table, key, Millis(0));
    table.clients.halt();
    (key, peer, requests)
}

impl Table {
    /// All clients go on in another table, `later` by its clock; their keys there.
    fn move_to(&mut self, other: &mut Self, now: Millis, there: Millis) -> Vec<Key> {
        self.clients.halt();
        assert_eq!(self.clients.under_way(), 0, "all has come to its end");
        self.move_at_once(other, now, there)
    }

    /// The same, whatever is under way.
    fn move_at_once(&mut self, other: &mut Self, now: Millis, there: Millis) -> Vec<Key> {
        let mut recording = self.clients.record(now, Arc::default());
        let mut taking = TablesTaking::default();
        while let Some(chunk) = recording.next_chunk(&self.clients) {
            taking.put(0, &chunk).unwrap();
        }
        let tables = taking.finish().unwrap();
        let before = other.clients.keys();
        for (key, client) in recording.next_clients(&self.clients, usize::MAX) {
            let stream = self.clients.duplicate(key).unwrap();
            let guard = other.control.barrier.client();
            other.clients.restore(&client, stream, guard, tables.of(0), there).unwrap();
            self.clients.let_go(key);
        }
        assert!(self.clients.is_empty(), "nobody is left");
        assert_eq!(self.budget.used(), 0);
        assert_eq!(self.control.barrier.clients(), 0);
        assert!(other.clients.begin_restored(there, &mut || true));
        let mut keys = other.clients.keys();
        keys.retain(|key| !before.contains(key));
        keys
    }
}

impl Table {
    /// So many bytes that the table's clients are given, at the end of one of them.
    fn read_all(&mut self, peer: &mut TcpStream, expected: usize) -> Vec<u8> {
        peer.set_nonblocking(true).unwrap();
        let mut received = Vec::new();
        let start = Clock::start();
        while received.len() < expected {
            assert!(start.now() < Millis::default() + PATIENCE, "all of it arrives");
            let mut buffer = vec![0; 1 << 16];
            match peer.read(&mut buffer) {
                Ok(0) => panic!("nobody is closed"),
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(_) => {
                    for key in self.clients.keys() {
                        let ready = Ready { key, readable: false, writable: true, ended: false };
                        self.clients.on_ready(ready, Millis(0));
                    }
                }
            }
        }
        received
    }
}

/// A frame of which every byte may be the last that the old table has read.
#[test]
fn a_client_goes_on_amid_any_byte_of_its_message() {
    let text = "grüße";
    let key = [0x12, 0x34, 0x56, 0x78];
    let hidden = |part: &[u8]| -> Vec<u8> {
        part.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    };
    // In two fragments with a ping between them, the first cut within a character.
    let (first, second) = text.as_bytes().split_at(3);
    let frame = |first_byte: u8, payload: &[u8]| {
        let length = 0x80 | u8::try_from(payload.len()).unwrap();
        [&[first_byte, length][..], &key, &hidden(payload)].concat()
    };
    let all = [frame(0x01, first), frame(0x89, b""), frame(0x80, second)].concat();
    for cut in 0..all.len() {
        let (mut old, mut new) = (table(quiet()), table(quiet()));
        let (key, mut peer) = old.client(Millis(0));
        if cut > 0 {
            peer.write_all(&all[..cut]).unwrap();
            let mut left = cut;
            old.read_until(key, Millis(0), |old| {
                left = left.min(cut);
                let held = old.clients.entries[key.index()].as_ref().unwrap();
                !held.decoder.is_idle() || cut == all.len()
            });
        }
        let keys = old.move_to(&mut new, Millis(10), Millis(1_000));
        peer.write_all(&all[cut..]).unwrap();
        assert_eq!(told_of(&mut new, keys[0], Millis(1_000)), [text], "cut at {cut}");
        let mut pong = [0; 2];
        peer.read_exact(&mut pong).unwrap();
        assert_eq!(pong, [0x8a, 0]);
    }
}

/// Bytes that the old table had not sent, also the rest of a frame, arrive once and in order.
#[test]
fn bytes_that_wait_arrive_once_and_in_order() {
    let (mut old, mut new) = (table(quiet()), table(quiet()));
    let (_, mut peer) = old.client(Millis(0));
    let (_, mut second) = old.client(Millis(0));
    let megabyte = "x".repeat(1 << 20);
    for _ in 0..6 {
        old.broadcast(&megabyte);
    }
    old.move_to(&mut new, Millis(0), Millis(0));
    new.broadcast("last");
    for peer in [&mut peer, &mut second] {
        let expected = 6 * (10 + megabyte.len()) + 6;
        let received = new.read_all(peer, expected);
        for frame in received[..expected - 6].chunks(10 + megabyte.len()) {
            assert_eq!(&frame[..2], [0x81, 127]);
            assert!(frame[10..].iter().all(|&byte| byte == b'x'));
        }
        assert_eq!(&received[expected - 6..], b"\x81\x04last");
    }
    assert_eq!(new.metrics.connections_closed.get(CloseReason::SlowConsumer as usize), 0);
}

/// A message that is written while it is read goes on amid any byte, in every encoding, and its
/// payload moves once for all of them.
#[test]
fn a_long_message_goes_on_in_every_encoding() {
    use crate::{conn::write::encoder::Encoder, hub::Encoding};
    let (mut old, mut new) = (table(quiet()), table(quiet()));
    let encodings = [Encoding::Plain, Encoding::V1, Encoding::Sse];
    let mut clients = encodings.map(|encoding| {
        let (channel, endpoint) = (ChannelName::default_channel(), Endpoint::Ws);
        let key = old.clients.admit(endpoint, encoding, &[channel]);
        (encoding, old.connect(key, Millis(0)))
    });
    let text = "line \"one\"\r\nand grüße\n\u{1}".repeat(200_000);
    let message = Publication {
        channel: ChannelName::default_channel(),
        kind: Kind::Text,
        data: text.into(),
        position: Some("e:1".parse().unwrap()),
    };
    assert!(old.clients.append(&message));
    while old.clients.pass(&mut || true).more {}
    old.clients.halt();
    let mut recording = old.clients.record(Millis(0), Arc::default());
    let chunks = std::iter::from_fn(|| recording.next_chunk(&old.clients));
    let bytes: usize = chunks.map(|chunk| chunk.len()).sum();
    let once = message.data.len()..message.data.len() + (1 << 20);
    assert!(once.contains(&bytes), "{bytes} for a payload of {}", message.data.len());
    old.clients.go_on();
    old.move_to(&mut new, Millis(0), Millis(0));
    assert!(new.budget.used() < message.data.len() + (1 << 20), "it is held once");
    let mut encoder = Encoder::new(usize::MAX, Arc::default());
    for (encoding, peer) in &mut clients {
        let (header, payload) = encoder.message(*encoding, &message);
        let expected = [header.as_ref().map_or(&[][..], AsRef::as_ref), payload].concat();
        // A stream is told first when to come back.
        let mut received = new.read_all(peer, expected.len());
        let begin = received.windows(8).position(|bytes| bytes == &expected[..8]).unwrap();
        received.extend(new.read_all(peer, begin - (received.len() - expected.len())));
        assert!(received[begin..] == expected, "{encoding:?}");
    }
    assert_eq!(new.budget.used(), 0);
}

/// Commands that wait are run by the new table, in their order, behind the one under way.
#[test]
fn commands_that_wait_are_run_elsewhere() {
    let (mut old, mut new) = (table(quiet()), table(quiet()));
    let (key, mut peer, _) = halted_amid_the_first(&mut old);
    assert_eq!(old.clients.under_way(), 1);
    // The first comes to its end, and the next does not begin.
    assert!(old.clients.next_command(key).is_none());
    let keys = old.move_to(&mut new, Millis(0), Millis(0));
    let requests = new.clients.take_requests();
    assert_eq!(told(&mut new, requests, keys[0]), ["b", "c"]);
    // And it is read again.
    peer.write_all(&masked(0x81, b"d")).unwrap();
    assert_eq!(told_of(&mut new, keys[0], Millis(0)), ["d"]);
}

/// Messages of a client that leaves while its table is halted are published here, as nowhere else.
#[test]
fn a_client_that_leaves_amid_a_halt_is_heard_out() {
    let mut old = table(quiet());
    let (key, _peer, _) = halted_amid_the_first(&mut old);
    assert!(old.clients.next_command(key).is_none(), "the next does not begin");
    old.clients.end(key, CloseReason::Lost);
    let requests = old.clients.take_requests();
    assert_eq!(told(&mut old, requests, key), ["b", "c"]);
}

/// A command that does not end in time interrupts its client, which has to come back; its messages
/// behind that command are published all the same.
/// Regression: they vanished, and the client was told nothing of them.
#[test]
fn messages_behind_an_interrupted_one_are_published() {
    let (mut old, mut new) = (table(quiet()), table(quiet()));
    let (key, mut peer, _requests) = halted_amid_the_first(&mut old);
    assert_eq!(old.clients.under_way(), 1, "it is not over yet");
    let keys = old.move_at_once(&mut new, Millis(0), Millis(0));
    assert!(old.clients.next_command(key).is_none(), "nothing is run twice");
    let requests = new.clients.take_requests();
    assert_eq!(told(&mut new, requests, keys[0]), ["b", "c"]);
    assert!(new.clients.pace(Millis(10_000), &mut || true));
    assert_eq!(close_code(&mut peer), 1012);
}

/// A hand-over that fails leaves everything as it was: the waiting commands are run here.
#[test]
fn a_halted_table_goes_on() {
    let mut table = table(quiet());
    let (key, mut peer) = table.client(Millis(0));
    peer.write_all(&[masked(0x81, b"a"), masked(0x81, b"b")].concat()).unwrap();
    let mut requests = Vec::new();
    table.read_until(key, Millis(0), |table| {
        requests.append(&mut table.clients.take_requests());
        !requests.is_empty()
    });
    table.clients.halt();
    drop(requests);
    assert!(table.clients.next_command(key).is_none());
    let mut recording = table.clients.record(Millis(0), Arc::default());
    assert_eq!(recording.next_clients(&table.clients, 9).len(), 1);
    table.clients.go_on();
    let requests = table.clients.take_requests();
    assert_eq!(told(&mut table, requests, key), ["b"]);
}

/// A message that is read while the table is halted waits, there or here.
#[test]
fn a_message_that_comes_late_waits() {
    for goes_on_here in [true, false] {
        let (mut old, mut new) = (table(quiet()), table(quiet()));
        let (key, mut peer) = old.client(Millis(0));
        old.clients.halt();
        peer.write_all(&masked(0x81, b"late")).unwrap();
        old.read_until(key, Millis(0), |old| {
            old.clients.entries[key.index()].as_ref().unwrap().queue().is_some()
        });
        assert_eq!((old.clients.under_way(), old.clients.take_requests().len()), (0, 0));
        let (table, key) = if goes_on_here {
            old.clients.go_on();
            (&mut old, key)
        } else {
            let keys = old.move_to(&mut new, Millis(0), Millis(0));
            (&mut new, keys[0])
        };
        let requests = table.clients.take_requests();
        assert_eq!(told(table, requests, key), ["late"]);
    }
}

/// Times are those of the client, whatever the new table's clock says.
#[test]
fn deadlines_go_on() {
    let (mut old, mut new) = (table(settings()), table(settings()));
    let (_, mut peer) = old.client(Millis(5_000));
    // 20 of the 25 seconds until a ping have passed.
    old.move_to(&mut new, Millis(25_000), Millis(100_000));
    new.clients.on_tick(Millis(104_000));
    peer.set_nonblocking(true).unwrap();
    assert!(peer.read(&mut [0; 2]).is_err(), "it is not pinged yet");
    peer.set_nonblocking(false).unwrap();
    new.clients.on_tick(Millis(105_200));
    read_exactly(&mut peer, b"\x89\x00");
    // Moved between the ping and its answer.
    let mut third = table(settings());
    new.move_to(&mut third, Millis(115_200), Millis(200_000));
    third.clients.on_tick(Millis(209_000));
    assert_eq!(third.clients.live(), 1);
    third.clients.on_tick(Millis(210_500));
    assert_eq!(close_code(&mut peer), 4408);
}

/// A client that is being closed ends as it would have ended.
#[test]
fn a_close_goes_on() {
    let (mut old, mut new) = (table(quiet()), table(quiet()));
    let (key, mut peer) = old.client(Millis(0));
    old.clients.close(key, CloseReason::GoingAway);
    old.move_to(&mut new, Millis(0), Millis(50_000));
    assert_eq!(close_code(&mut peer), 1001);
    let keys = new.clients.keys();
    peer.write_all(&masked(0x88, &[0x03, 0xe9])).unwrap();
    new.read_until(keys[0], Millis(50_000), |new| new.clients.is_empty());
    assert_eq!(new.metrics.connections_closed.get(CloseReason::GoingAway as usize), 1);
}

/// A client's rights, what they allow and when they end, go with it; equal ones stay one.
#[test]
fn rights_go_on() {
    use super::tokens::{private_table, token};
    let (mut old, mut new) = (private_table(), private_table());
    let shown = token(&["a"], &["a"], Millis(0));
    let (_, mut first) = old.client_with(Encoding::V1, &["a"], shown.clone());
    let (_, _second) = old.client_with(Encoding::V1, &["a"], shown);
    let keys = old.move_to(&mut new, Millis(50_000), Millis(900_000));
    let rights = keys.iter().map(|&key| new.clients.rights.of_token(key).unwrap());
    let rights: Vec<*const Rights> = rights.map(std::ptr::from_ref).collect();
    assert_eq!(rights[0], rights[1], "one allocation for both");
    assert_eq!(new.clients.clients_of_subject("alice").len(), 2);
    assert_eq!(new.clients.clients_of_token_id("7").len(), 2);
    // 50 of its 100 seconds have passed, and the end is put off by a few of them at most.
    new.clients.on_tick(Millis(949_000));
    let is_open = |new: &Table, key: Key| {
        let entry = new.clients.entries[key.index()].as_ref();
        entry.is_some_and(|entry| entry.state() == ClientState::Open)
    };
    assert!(keys.iter().all(|&key| is_open(&new, key)), "its time is not over");
    new.clients.on_tick(Millis(980_000));
    assert!(keys.iter().all(|&key| !is_open(&new, key)), "its time is over");
    let mut said = [0; 1024];
    let count = first.read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..count]).contains("token_expiring"), "it was told");
}

/// A client that is within its history gets the rest of it elsewhere, then what was in its logs.
#[test]
fn a_replay_goes_on_before_the_logs() {
    use crate::{
        broker::{History, Position, Start},
        hub::Encoding,
    };
    struct Kept(Vec<Publication>);
    impl History for Kept {
        fn history(
            &self,
            _channel: &ChannelName,
            after: &Position,
            to: u64,
            _bytes_max: usize,
        ) -> Option<Vec<Publication>> {
            let offset = |message: &Publication| message.position.as_ref().unwrap().offset;
            let wanted = self.0.iter().filter(|it| (after.offset + 1..=to).contains(&offset(it)));
            // One at a time.
            Some(wanted.take(1).cloned().collect())
        }
    }
    let at = |offset| Position { epoch: "e".into(), offset };
    let message = |offset: u64| Publication {
        channel: ChannelName::default_channel(),
        kind: Kind::Text,
        data: offset.to_string().into(),
        position: Some(at(offset)),
    };
    let (mut old, mut new) = (table(quiet()), table(quiet()));
    let history = Kept((1..=4).map(message).collect());
    let key = old.clients.admit(Endpoint::Ws, Encoding::Plain, &[ChannelName::default_channel()]);
    old.clients.hold(key);
    let mut peer = old.connect(key, Millis(0));
    for offset in 5..=6 {
        assert!(old.clients.append(&message(offset)));
    }
    let channel = ChannelName::default_channel();
    let (from, to) = (Some(at(1)), Some(at(4)));
    old.clients.welcome(key, vec![Start { channel, from, to, resumed: true, missed: None }]);
    let follow_ups = old.clients.take_follow_ups();
    assert_eq!(follow_ups.len(), 1);
    old.clients.follow_up(follow_ups[0], Millis(0), &history);
    read_exactly(&mut peer, b"\x81\x012");
    old.move_to(&mut new, Millis(0), Millis(0));
    assert!(new.clients.append(&message(7)));
    loop {
        let follow_ups = new.clients.take_follow_ups();
        if follow_ups.is_empty() {
            break;
        }
        for follow_up in follow_ups {
            new.clients.follow_up(follow_up, Millis(0), &history);
        }
    }
    while new.clients.pass(&mut || true).more {}
    read_exactly(&mut peer, b"\x81\x013\x81\x014\x81\x015\x81\x016\x81\x017");
}
