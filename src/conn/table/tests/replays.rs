//! Clients of `wsbcast.v1` that are given history: what goes before what.

use std::io::Read as _;

use super::*;
use crate::{
    broker::{History, Missed, Position, Start},
    hub::SlowPolicy,
};

const PATIENT: Millis = Millis(0);

fn at(offset: u64) -> Position {
    Position { epoch: "e".into(), offset }
}

fn message(offset: u64, length: usize) -> Publication {
    Publication {
        channel: ChannelName::default_channel(),
        kind: Kind::Text,
        data: vec![b'x'; length].into(),
        position: Some(at(offset)),
    }
}

fn start(from: u64, to: u64) -> Start {
    let channel = ChannelName::default_channel();
    Start { channel, from: Some(at(from)), to: Some(at(to)), resumed: true, missed: None }
}

/// A v1 client that waits to be given history.
fn held(table: &mut Table) -> (Key, TcpStream) {
    let channels = [ChannelName::default_channel()];
    let key = table.clients.admit(Endpoint::Ws, Encoding::V1, &channels);
    table.clients.hold(key);
    let peer = table.connect(key, PATIENT);
    (key, peer)
}

/// Whether the client is to be given a piece of its history when it has its turn.
fn has_replay(table: &mut Table, key: Key) -> bool {
    table.clients.take_follow_ups().contains(&FollowUp::Replay(key))
}

/// The piece of history that is read next; None: it is gone.
struct Piece(Option<Vec<Publication>>);

impl History for Piece {
    fn history(&self, _: &ChannelName, _: &Position, _: u64, _: usize) -> Option<Vec<Publication>> {
        self.0.clone()
    }
}

/// The client has its turn, and reads `piece`.
fn replay(table: &mut Table, key: Key, piece: Option<Vec<Publication>>) {
    table.clients.follow_up(FollowUp::Replay(key), PATIENT, &Piece(piece));
}

/// The next message, and its `offset` or `from` and `to`.
fn next(peer: &mut TcpStream) -> serde_json::Value {
    let mut head = [0; 2];
    peer.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x81, "a text message");
    let mut length = usize::from(head[1]);
    if length == 126 {
        let mut more = [0; 2];
        peer.read_exact(&mut more).unwrap();
        length = usize::from(u16::from_be_bytes(more));
    }
    let mut text = vec![0; length];
    peer.read_exact(&mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A cut of the log during a replay is reported after the replay.
#[test]
fn a_cut_during_a_replay_is_told_behind_it() {
    let skip = hub::HubSettings {
        backlog_bytes: 100_000,
        slow: SlowPolicy::Skip,
        slow_close_frame: Box::default(),
    };
    let mut table = table(settings());
    table.clients.hub = Hub::new(skip, table.budget.clone());
    let (key, mut peer) = held(&mut table);
    table.clients.start(key, &ChannelName::default_channel(), Some(&at(2)));
    table.clients.welcome(key, vec![start(0, 2)]);
    assert!(has_replay(&mut table, key));
    for offset in 3..=30 {
        table.clients.append(&message(offset, 20_000));
    }
    replay(&mut table, key, Some(vec![message(1, 5)]));
    assert!(has_replay(&mut table, key), "the next piece, now that there is room");
    replay(&mut table, key, Some(vec![message(2, 5)]));
    assert_eq!(next(&mut peer)["type"], "hello");
    assert_eq!([next(&mut peer)["offset"].take(), next(&mut peer)["offset"].take()], [1, 2]);
    let mut expected = 3;
    while expected <= 30 {
        let word = next(&mut peer);
        if word["type"] == "gap" {
            assert_eq!(word["from"], expected);
            expected = word["to"].as_u64().unwrap() + 1;
            assert!(expected > 10, "most of them do not fit into the backlog");
        } else {
            assert_eq!(word["offset"], expected);
            expected += 1;
        }
    }
    assert!(table.clients.replays.is_empty());
}

/// A client that leaves a channel within its history gets no more of it, and its other channels
/// continue.
#[test]
fn a_client_that_leaves_a_channel_gets_no_more_of_it() {
    let mut table = table(settings());
    let (key, mut peer) = held(&mut table);
    let other = ChannelName::new("other").unwrap();
    table.clients.hub.subscribe(key, &other, Encoding::V1);
    table.clients.welcome(key, vec![start(0, 2)]);
    assert!(has_replay(&mut table, key));
    table.clients.append(&Publication { channel: other, ..message(7, 5) });
    table.clients.append(&message(3, 5));
    peer.write_all(&masked(0x81, br#"{"type":"unsubscribe","channel":"notifications"}"#)).unwrap();
    table.read_until(key, PATIENT, |table| table.clients.replays.is_empty());
    replay(&mut table, key, Some(vec![message(1, 5)]));
    assert_eq!(next(&mut peer)["type"], "hello");
    assert_eq!(next(&mut peer)["type"], "unsubscribed");
    let word = next(&mut peer);
    assert_eq!((&word["channel"], &word["offset"]), (&"other".into(), &7.into()));
}

#[test]
fn history_that_is_gone_before_it_was_sent_is_a_gap() {
    let mut table = table(settings());
    let (key, mut peer) = held(&mut table);
    table.clients.welcome(key, vec![start(0, 5)]);
    replay(&mut table, key, Some(vec![message(1, 5)]));
    table.clients.append(&message(6, 5));
    replay(&mut table, key, None);
    assert_eq!(next(&mut peer)["type"], "hello");
    assert_eq!(next(&mut peer)["offset"], 1);
    let gap = next(&mut peer);
    assert_eq!((&gap["from"], &gap["to"]), (&2.into(), &5.into()));
    assert_eq!(next(&mut peer)["offset"], 6);
}

/// A channel that is being joined holds the logs though an earlier replay ends.
#[test]
fn a_channel_being_joined_holds_the_logs() {
    let mut table = table(settings());
    let (key, mut peer) = held(&mut table);
    table.clients.welcome(key, vec![start(0, 1)]);
    let late = ChannelName::new("late").unwrap();
    let wanted = SubscribeRequest { channel: late.clone(), since: None };
    assert!(table.clients.join(key, &wanted).is_some());
    replay(&mut table, key, Some(vec![message(1, 5)]));
    table.clients.append(&message(2, 5));
    while table.clients.pass(&mut || true).more {}
    let missed = Some(Missed { epoch: Some("l".into()), from: 1, to: Some(3), sure: false });
    let from = Some(Position { epoch: "l".into(), offset: 3 });
    table.clients.append(&Publication { channel: late.clone(), ..message(9, 5) });
    table.clients.subscribed(key, Start { channel: late, from, missed, ..start(0, 0) });
    assert!(table.clients.join(key, &wanted).is_none(), "it has it");
    let kinds: Vec<_> = (0..7).map(|_| next(&mut peer)["type"].take()).collect();
    let order = ["hello", "message", "subscribed", "gap", "message", "message", "subscribed"];
    assert_eq!(kinds, order);
}

/// Of a long message of the history there is one copy however many clients are given it. The memory
/// of a client of each encoding that asks for long history and never reads.
#[test]
fn a_long_history_message_is_kept_once() {
    const CLIENTS: usize = 50;
    for encoding in [Encoding::Plain, Encoding::V1, Encoding::Sse] {
        let mut table = table(settings());
        let message = message(1, 1 << 20);
        let mut peers = Vec::new();
        for _ in 0..CLIENTS {
            let channels = [ChannelName::default_channel()];
            let key = table.clients.admit(Endpoint::Ws, encoding, &channels);
            table.clients.hold(key);
            peers.push(table.connect(key, PATIENT));
            // It takes nothing any more.
            *table.clients.hub.outlet_mut(key).unwrap() = Socket::Pending;
            table.clients.welcome(key, vec![start(0, 1)]);
            assert!(has_replay(&mut table, key));
            replay(&mut table, key, Some(vec![message.clone()]));
        }
        let held = table.budget.used();
        assert!(held > 1 << 20, "it is charged as long as somebody reads it: {held}");
        assert!(held < (1 << 20) + (CLIENTS << 10), "{encoding:?}: {held}");
        if encoding == Encoding::Plain {
            assert!(!message.data.is_unique(), "no copy: the history's own bytes");
        }
        table.clients.drop_all();
        assert_eq!(table.budget.used(), 0);
        assert!(message.data.is_unique(), "{encoding:?}");
    }
}

/// A client that takes everything is given one piece of its history a turn. Its socket takes
/// whatever it is given: it would have all its history before any other client is served.
#[test]
fn a_ready_client_gets_one_piece_per_turn() {
    /// Reads one message at a time, and counts how often.
    struct Endless(std::cell::Cell<u64>);

    impl History for Endless {
        fn history(
            &self,
            _: &ChannelName,
            after: &Position,
            _: u64,
            _: usize,
        ) -> Option<Vec<Publication>> {
            self.0.set(self.0.get() + 1);
            Some(vec![message(after.offset + 1, 100)])
        }
    }

    let mut table = table(settings());
    let (key, mut peer) = held(&mut table);
    let history = Endless(std::cell::Cell::default());
    table.clients.welcome(key, vec![start(0, 1_000_000)]);
    for turn in 1..=5 {
        assert_eq!(table.clients.take_follow_ups(), [FollowUp::Replay(key)]);
        table.clients.follow_up(FollowUp::Replay(key), PATIENT, &history);
        assert_eq!(history.0.get(), turn);
    }
    assert_eq!(next(&mut peer)["type"], "hello");
    let offsets: Vec<_> = (0..5).map(|_| next(&mut peer)["offset"].take()).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5]);
}

/// A client whose turn gives it nothing has another one. A plain client is told of no gap: behind a
/// message too large for this process it was held in silence, since there was nothing to take.
#[test]
fn a_turn_that_gives_nothing_is_not_the_last() {
    const TOO_LARGE: usize = (1 << 20) + 1;

    /// Of the default channel every other message is too large, of "gone" there is none.
    struct Holey;

    impl History for Holey {
        fn history(
            &self,
            channel: &ChannelName,
            after: &Position,
            _: u64,
            _: usize,
        ) -> Option<Vec<Publication>> {
            let offset = after.offset + 1;
            let length = if offset.is_multiple_of(2) { 5 } else { TOO_LARGE };
            let message = Publication { channel: channel.clone(), ..message(offset, length) };
            (channel.as_str() != "gone").then(|| vec![message])
        }
    }

    for encoding in [Encoding::Plain, Encoding::V1, Encoding::Sse] {
        let settings = ClientSettings { resume_miss: ResumeMiss::Continue, ..settings() };
        let mut table = table_within(settings, 4 * (TOO_LARGE - 1));
        let channels = ["gone", "last"].map(|name| ChannelName::new(name).unwrap());
        let key = table.clients.admit(Endpoint::Ws, encoding, &[ChannelName::default_channel()]);
        table.clients.hold(key);
        let mut peer = table.connect(key, PATIENT);
        let more = channels.map(|channel| Start { channel, ..start(0, 3) });
        table.clients.welcome(key, [start(0, 3)].into_iter().chain(more).collect());
        table.clients.append(&message(4, 7));
        for turn in 1..=7 {
            assert!(has_replay(&mut table, key), "{encoding:?}: there is no turn {turn}");
            table.clients.follow_up(FollowUp::Replay(key), PATIENT, &Holey);
        }
        assert!(table.clients.replays.is_empty() && !has_replay(&mut table, key), "{encoding:?}");
        if encoding == Encoding::Plain {
            // One message from each history, then the log.
            read_exactly(&mut peer, b"\x81\x05xxxxx\x81\x05xxxxx\x81\x07xxxxxxx");
        }
    }
}

/// A client that reads nothing is given one piece however many channels it subscribes to.
/// Each subscription brought its own piece, read or not: 1,000 of them for one client.
#[test]
fn a_client_that_reads_nothing_gets_one_piece() {
    let mut table = table(settings());
    let key = table.clients.admit(Endpoint::Ws, Encoding::V1, &[]);
    let mut pieces = 0;
    for number in 0..20 {
        let channel = ChannelName::new(&format!("c{number}")).unwrap();
        let wanted = SubscribeRequest { channel: channel.clone(), since: None };
        if number == 1 {
            // From here on it is there, and takes nothing.
            table.connect(key, PATIENT);
            *table.clients.hub.outlet_mut(key).unwrap() = Socket::Pending;
        }
        table.clients.join(key, &wanted);
        table.clients.subscribed(key, Start { channel: channel.clone(), ..start(0, 9) });
        while has_replay(&mut table, key) {
            pieces += 1;
            let of_it = |offset| Publication { channel: channel.clone(), ..message(offset, 9000) };
            replay(&mut table, key, Some(vec![of_it(1), of_it(2)]));
            assert!(pieces < 5, "it is given no more before it takes that");
        }
    }
    assert!((1..3).contains(&pieces), "{pieces}");
    assert!(table.clients.hub.unread(key) < 40_000, "{}", table.clients.hub.unread(key));
}
