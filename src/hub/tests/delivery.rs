//! Messages and control frames reach the right clients, whole and in order.

use std::io::IoSlice;

use super::{
    events, name, pass,
    pipe::{Pipe, frame},
    roomy_hub,
};
use crate::{
    hub::{Encoding, Event, Hub, Key, Unchanged, bytelog::ByteLog},
    limits::{CHUNK_BYTES_MAX, WRITE_SLICES_MAX},
    ws::Kind,
};

fn subscribed(hub: &mut Hub<Pipe>, pipe: &Pipe, channels: &[&str]) -> Key {
    let key = hub.insert(pipe.clone());
    for channel in channels {
        hub.subscribe(key, &name(channel), Encoding::Plain);
    }
    key
}

/// A message reaches every subscriber of its channel and nobody else.
#[test]
fn a_message_reaches_its_channels_subscribers_only() {
    let mut hub = roomy_hub();
    let pipes = [Pipe::open(), Pipe::open(), Pipe::open()];
    subscribed(&mut hub, &pipes[0], &["a"]);
    subscribed(&mut hub, &pipes[1], &["a", "b"]);
    subscribed(&mut hub, &pipes[2], &["b"]);
    assert!(hub.publish("a", &mut Unchanged::new(Kind::Text, b"1")));
    assert!(hub.publish("b", &mut Unchanged::new(Kind::Text, b"2")));
    assert!(!hub.publish("c", &mut Unchanged::new(Kind::Text, b"3")));
    let done = pass(&mut hub);
    assert_eq!((done.more, done.deliveries, done.bytes), (false, 4, 12));
    assert_eq!(pipes.each_ref().map(Pipe::texts), [vec!["1"], vec!["1", "2"], vec!["2"]]);
}

/// A client gets each message that is published after it has subscribed, once.
#[test]
fn a_client_gets_messages_after_it_subscribed() {
    let mut hub = roomy_hub();
    let early = Pipe::open();
    subscribed(&mut hub, &early, &["a", "a"]);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"before"));
    let late = Pipe::open();
    let key = subscribed(&mut hub, &late, &["a"]);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"after"));
    assert!(!hub.subscribe(key, &name("a"), Encoding::Plain));
    pass(&mut hub);
    assert_eq!(early.texts(), ["before", "after"]);
    assert_eq!(late.texts(), ["after"]);
}

/// All messages that were published between two passes go out in one write.
#[test]
fn messages_between_two_passes_are_one_write() {
    let mut hub = roomy_hub();
    let pipe = Pipe::open();
    subscribed(&mut hub, &pipe, &["a"]);
    // Over several chunks.
    for number in 0..5_000 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, format!("message {number}").as_bytes()));
    }
    assert_eq!(pass(&mut hub).deliveries, 5_000);
    assert_eq!(pipe.0.borrow().writes, 1);
    assert_eq!(pipe.texts()[4_999], "message 4999");
    assert_eq!(pass(&mut hub).deliveries, 0);
    assert_eq!(pipe.0.borrow().writes, 1, "nothing new, no write");
}

/// Messages of every length arrive whole also across chunks and writes.
#[test]
fn messages_of_every_length_arrive_whole() {
    let mut hub = roomy_hub();
    let (open, narrow) = (Pipe::open(), Pipe::open());
    narrow.0.borrow_mut().per_write = 70_001;
    subscribed(&mut hub, &open, &["a"]);
    let key = subscribed(&mut hub, &narrow, &["a"]);
    let lengths = [0, 1, 125, 126, 127, 511, 65_535, 65_536, 65_537, 5_000_000, 0];
    for (filler, &length) in (1_u8..).zip(&lengths) {
        hub.publish("a", &mut Unchanged::new(Kind::Binary, &vec![filler; length]));
        pass(&mut hub);
    }
    while hub.is_blocked(key) {
        narrow.make_room(usize::MAX);
        hub.writable(key);
        hub.check();
    }
    for pipe in [open, narrow] {
        let expected: Vec<_> = (1_u8..).zip(&lengths).map(|(f, &n)| (2, vec![f; n])).collect();
        assert!(pipe.frames() == expected);
    }
}

/// A client megabytes behind gets everything in order and delays nobody.
#[test]
fn a_client_megabytes_behind_delays_nobody() {
    let mut hub = roomy_hub();
    let (stalled, other) = (Pipe::with_room(1_000), Pipe::open());
    let key = subscribed(&mut hub, &stalled, &["a"]);
    subscribed(&mut hub, &other, &["a"]);
    for number in 0..4_000 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, format!("{number:01024}").as_bytes()));
        pass(&mut hub);
    }
    assert_eq!(other.texts().len(), 4_000);
    assert_eq!(stalled.0.borrow().writes, 1, "a full outlet is not tried again");
    assert_eq!(events(&mut hub), [Event::Blocked(key)]);
    stalled.make_room(usize::MAX);
    hub.writable(key);
    assert_eq!(events(&mut hub), [Event::Drained(key)]);
    assert!(stalled.texts() == other.texts());
}

/// A control frame waits for the end of a begun frame and goes before the next.
#[test]
fn a_control_frame_goes_between_two_frames() {
    let mut hub = roomy_hub();
    let pipe = Pipe::with_room(5);
    let key = subscribed(&mut hub, &pipe, &["a", "b"]);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"hello"));
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"again"));
    hub.publish("b", &mut Unchanged::new(Kind::Text, b"other"));
    pass(&mut hub);
    hub.control(key, &frame(0x9, b"ping"));
    assert_eq!(hub.unsent(key), 6);
    hub.check();
    pipe.make_room(usize::MAX);
    hub.writable(key);
    hub.check();
    assert_eq!(pipe.texts(), ["hello", "ping", "again", "other"]);
    hub.control(key, &frame(0x9, b"now"));
    assert_eq!(pipe.texts().last().unwrap(), "now", "tried at once");
}

/// However often a client pings without reading one pong waits.
#[test]
fn one_pong_waits_however_many_pings() {
    let mut hub = roomy_hub();
    let pipe = Pipe::with_room(0);
    let key = subscribed(&mut hub, &pipe, &[]);
    hub.pong(key, &frame(0xa, b"first"));
    for number in 0..1_000 {
        hub.pong(key, &frame(0xa, format!("{number}").as_bytes()));
        hub.ping(key, &frame(0x9, b"?"));
    }
    assert_eq!(hub.unsent(key), 5 + 3);
    pipe.make_room(usize::MAX);
    hub.writable(key);
    assert_eq!(pipe.texts(), ["999", "?"]);
}

#[test]
fn a_clients_own_output_is_gathered_into_one_write() {
    let mut hub = roomy_hub();
    let pipe = Pipe::open();
    let key = subscribed(&mut hub, &pipe, &[]);
    for _ in 0..10 {
        hub.queue(key, &[&frame(0x1, b"echo")[..2], b"echo"]);
    }
    assert_eq!((hub.unsent(key), pipe.0.borrow().writes), (60, 0));
    assert!(hub.has_work());
    pass(&mut hub);
    assert_eq!((hub.unsent(key), pipe.0.borrow().writes), (0, 1));
    assert_eq!(events(&mut hub), [Event::Drained(key)]);
    hub.queue(key, &[&frame(0x1, b"echo")]);
    assert_eq!(events(&mut hub), [Event::Drained(key)], "written before the events are told");
    assert_eq!(pipe.texts(), ["echo"; 11]);
    assert!(!pass(&mut hub).more);
}

#[test]
fn a_pass_stops_when_told_and_goes_on_where_it_was() {
    let mut hub = roomy_hub();
    let pipes: Vec<Pipe> = (0..10).map(|_| Pipe::open()).collect();
    let keys: Vec<Key> = pipes.iter().map(|pipe| subscribed(&mut hub, pipe, &["a"])).collect();
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"1"));
    let mut slices = 0;
    while hub.pass(&mut || false).more {
        hub.check();
        let reached = pipes.iter().filter(|pipe| !pipe.texts().is_empty()).count();
        slices += 1;
        assert_eq!(reached, slices);
    }
    assert!(pipes.iter().all(|pipe| pipe.texts() == ["1"]));
    // A client visited late in a pass simply gets more.
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"2"));
    hub.pass(&mut || false);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"3"));
    hub.remove(keys[3]);
    pass(&mut hub);
    for (number, pipe) in pipes.iter().enumerate().filter(|&(number, _)| number != 3) {
        assert_eq!(pipe.texts(), ["1", "2", "3"], "client {number}");
    }
    let writes: usize = pipes.iter().map(|pipe| pipe.0.borrow().writes).sum();
    assert!(writes <= 10 + 9 + 2, "{writes}");
}

/// An interrupted write is tried again and a broken outlet never.
#[test]
fn an_interrupted_write_is_tried_again() {
    let mut hub = roomy_hub();
    let (good, broken) = (Pipe::open(), Pipe::open());
    good.0.borrow_mut().interrupts = 2;
    broken.0.borrow_mut().broken = true;
    subscribed(&mut hub, &good, &["a"]);
    let key = subscribed(&mut hub, &broken, &["a", "b"]);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"1"));
    pass(&mut hub);
    assert_eq!(good.texts(), ["1"]);
    assert_eq!(events(&mut hub), [Event::Failed(key, std::io::ErrorKind::BrokenPipe)]);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"2"));
    hub.control(key, &frame(0x9, b""));
    hub.writable(key);
    pass(&mut hub);
    assert_eq!(broken.0.borrow().writes, 1);
    assert_eq!(hub.take_abandoned(), Some(name("b")));
}

/// An abandoned channel is named once, and not if a client came back.
#[test]
fn an_abandoned_channel_is_named_once() {
    let mut hub = roomy_hub();
    let pipe = Pipe::open();
    let first = subscribed(&mut hub, &pipe, &["a", "b"]);
    hub.remove(first);
    let second = hub.insert(pipe);
    assert!(hub.subscribe(second, &name("a"), Encoding::Plain), "first again");
    assert_eq!(hub.take_abandoned(), Some(name("b")));
    assert_eq!(hub.take_abandoned(), None);
    assert!(hub.has_channel("a") && !hub.has_channel("b"));
    hub.remove(second);
    assert_eq!(hub.take_abandoned(), Some(name("a")));
    assert_eq!((hub.take_abandoned(), hub.channel_count()), (None, 0));
}

#[test]
fn a_stale_key_is_refused_everywhere() {
    let mut hub = roomy_hub();
    let pipe = Pipe::open();
    let stale = subscribed(&mut hub, &pipe, &["a"]);
    assert_eq!(hub.first_channel(stale), Some(&name("a")));
    assert!(hub.remove(stale).is_some());
    let fresh = hub.insert(pipe.clone());
    assert!(hub.remove(stale).is_none() && hub.outlet(stale).is_none());
    assert!(hub.outlet_mut(stale).is_none() && hub.first_channel(stale).is_none());
    assert!(!hub.subscribe(stale, &name("a"), Encoding::Plain));
    hub.control(stale, &frame(0x9, b""));
    hub.pong(stale, &frame(0xa, b""));
    hub.queue(stale, &[b"x"]);
    hub.close(stale, &frame(0x8, b""), crate::hub::Finish::Frame);
    hub.hurry(stale);
    hub.writable(stale);
    pass(&mut hub);
    assert_eq!(pipe.0.borrow().writes, 0);
    assert!(hub.keys().eq([fresh]));
}

/// An outlet may keep the last byte that it is offered for itself (TLS does): so no offer that ends
/// for want of slices ends on the first byte of a frame, which would then not seem begun.
#[test]
fn no_offer_ends_on_the_first_byte_of_a_frame() {
    let mut log = ByteLog::default();
    // Each chunk ends with the first byte of a frame.
    log.append([&vec![1; CHUNK_BYTES_MAX - 1], b""]);
    for _ in 0..WRITE_SLICES_MAX + 2 {
        log.append([&vec![1; CHUNK_BYTES_MAX], b""]);
    }
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
    assert_eq!(log.gather(0, log.head(), &mut slices), WRITE_SLICES_MAX);
    let offered: usize = slices.iter().map(|slice| slice.len()).sum();
    assert_eq!(offered, WRITE_SLICES_MAX * CHUNK_BYTES_MAX - 1);
    assert!(log.is_boundary(offered as u64));
}
