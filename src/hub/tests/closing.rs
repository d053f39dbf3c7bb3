//! Every close: what still goes out, the Close frame, and nothing after it.

use std::sync::Arc;

use super::{
    SLOW_FRAME, events, name, pass,
    pipe::{Pipe, frame},
    roomy_hub, settings,
};
use crate::{
    hub::{Budget, Encoding, Event, Finish, Hub, Key, SlowPolicy, Unchanged},
    ws::Kind,
};

const CLOSE: &[u8] = &[0x88, 2, 3, 232];

/// A client of channels `a` and `b` that has taken `room` bytes of `begun` and then `second`.
fn stalled(hub: &mut Hub<Pipe>, room: usize) -> (Key, Pipe) {
    let pipe = Pipe::with_room(room);
    let key = hub.insert(pipe.clone());
    hub.subscribe(key, &name("a"), Encoding::Plain);
    hub.subscribe(key, &name("b"), Encoding::Plain);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"begun"));
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"second"));
    hub.publish("b", &mut Unchanged::new(Kind::Text, b"third"));
    pass(hub);
    events(hub);
    (key, pipe)
}

fn let_go(hub: &mut Hub<Pipe>, key: Key, pipe: &Pipe) -> Vec<Vec<u8>> {
    pipe.make_room(usize::MAX);
    hub.writable(key);
    hub.check();
    assert_eq!(events(hub), [Event::Drained(key), Event::CloseSent(key)]);
    let writes = pipe.0.borrow().writes;
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"late"));
    hub.control(key, &frame(0x9, b""));
    hub.pong(key, &frame(0xa, b""));
    hub.queue(key, &[b"x"]);
    hub.close(key, CLOSE, Finish::Log);
    hub.writable(key);
    pass(hub);
    assert_eq!(pipe.0.borrow().writes, writes, "nothing after a Close frame");
    pipe.frames().into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn an_idle_client_is_closed_at_once() {
    let mut hub = roomy_hub();
    let pipe = Pipe::open();
    let key = hub.insert(pipe.clone());
    hub.subscribe(key, &name("a"), Encoding::Plain);
    hub.close(key, CLOSE, Finish::Log);
    hub.check();
    assert_eq!(events(&mut hub), [Event::CloseSent(key)]);
    assert_eq!(pipe.0.borrow().received, CLOSE);
    assert_eq!(hub.take_abandoned(), Some(name("a")));
}

/// A close after the frame ends the begun frame and what was queued.
#[test]
fn a_close_after_the_frame_ends_what_has_begun() {
    let mut hub = roomy_hub();
    let (key, pipe) = stalled(&mut hub, 3);
    hub.control(key, &frame(0x9, b"ping"));
    hub.close(key, CLOSE, Finish::Frame);
    hub.check();
    assert_eq!(hub.take_abandoned(), Some(name("b")), "only the begun frame's log is still read");
    assert_eq!(let_go(&mut hub, key, &pipe), [&b"begun"[..], b"ping", &CLOSE[2..]]);
}

/// A close after the logs sends what was published before it and nothing newer.
#[test]
fn a_close_after_the_logs_sends_nothing_newer() {
    let mut hub = roomy_hub();
    let (key, pipe) = stalled(&mut hub, 3);
    hub.close(key, CLOSE, Finish::Log);
    hub.publish("a", &mut Unchanged::new(Kind::Text, b"newer"));
    hub.check();
    let expected = [&b"begun"[..], b"second", b"third", &CLOSE[2..]];
    assert_eq!(let_go(&mut hub, key, &pipe), expected);
}

/// A second close may hurry the first and changes nothing else.
#[test]
fn a_second_close_may_hurry_the_first() {
    for hurry in [false, true] {
        let mut hub = roomy_hub();
        let (key, pipe) = stalled(&mut hub, 3);
        hub.close(key, CLOSE, Finish::Log);
        hub.close(key, SLOW_FRAME, Finish::Log);
        if hurry {
            hub.hurry(key);
        } else {
            hub.close(key, SLOW_FRAME, Finish::Frame);
        }
        hub.close(key, SLOW_FRAME, Finish::Log);
        hub.check();
        assert_eq!(let_go(&mut hub, key, &pipe), [&b"begun"[..], &CLOSE[2..]]);
    }
}

/// Closing a channel closes its clients after what they have.
#[test]
fn closing_a_channel_closes_its_clients() {
    let mut hub = roomy_hub();
    let (key, pipe) = stalled(&mut hub, 3);
    let other = hub.insert(Pipe::open());
    hub.subscribe(other, &name("c"), Encoding::Plain);
    hub.close_channel("b", CLOSE);
    hub.close_channel("b", CLOSE);
    pass(&mut hub);
    hub.close_channel("b", CLOSE);
    pass(&mut hub);
    let parting = |event: &Event| matches!(event, Event::Parting(_));
    let parting: Vec<Event> = events(&mut hub).into_iter().filter(parting).collect();
    assert_eq!(parting, [Event::Parting(key)], "once");
    let expected = [&b"begun"[..], b"second", b"third", &CLOSE[2..]];
    assert_eq!(let_go(&mut hub, key, &pipe), expected);
    assert!(hub.has_channel("c"));
}

/// A slow consumer gets the end of its begun frame and the close frame.
#[test]
fn a_slow_consumer_gets_the_end_of_its_frame() {
    let budget = Arc::new(Budget::new(1 << 30));
    let mut hub = Hub::new(settings(100_000, SlowPolicy::Close), budget);
    let (slow, fast) = (Pipe::with_room(700), Pipe::open());
    let key = hub.insert(slow.clone());
    let reader = hub.insert(fast.clone());
    hub.subscribe(key, &name("a"), Encoding::Plain);
    hub.subscribe(reader, &name("a"), Encoding::Plain);
    for number in 0..300 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, format!("{number:01000}").as_bytes()));
        pass(&mut hub);
    }
    assert_eq!(events(&mut hub), [Event::Blocked(key), Event::Slow(key)]);
    assert_eq!(hub.unsent(key), 1004 - 700 + SLOW_FRAME.len());
    slow.make_room(usize::MAX);
    hub.writable(key);
    let frames = slow.frames();
    assert_eq!(frames[0].1, format!("{:01000}", 0).as_bytes());
    assert_eq!((frames.len(), frames[1].0), (2, 0x8));
    assert_eq!(fast.texts().len(), 300);
}

/// A skipping client continues with the newest message, and its loss is counted.
#[test]
fn a_skipping_client_goes_on_with_the_newest() {
    let budget = Arc::new(Budget::new(1 << 30));
    let mut hub = Hub::new(settings(100_000, SlowPolicy::Skip), budget);
    let pipe = Pipe::with_room(700);
    let key = hub.insert(pipe.clone());
    hub.subscribe(key, &name("a"), Encoding::Plain);
    let mut missed = 0;
    for number in 0..300 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, format!("{number:01000}").as_bytes()));
        pass(&mut hub);
    }
    for event in events(&mut hub) {
        if let Event::Skipped(_, count, _) = event {
            missed += count;
        }
    }
    pipe.make_room(usize::MAX);
    hub.writable(key);
    hub.check();
    let got: Vec<u64> = pipe.texts().iter().map(|text| text.parse().unwrap()).collect();
    assert!(missed > 0 && got.len() > 2);
    assert_eq!((got[0], got.len() as u64 + missed), (0, 300));
    assert!(got[1..].windows(2).all(|pair| pair[1] == pair[0] + 1), "one hole");
}

/// A client that was merely not reached by a pass is written to, and not called slow.
#[test]
fn a_client_not_reached_by_a_pass_is_not_slow() {
    let budget = Arc::new(Budget::new(1 << 30));
    let mut hub = Hub::new(settings(10_000, SlowPolicy::Close), budget);
    let pipe = Pipe::open();
    let key = hub.insert(pipe.clone());
    hub.subscribe(key, &name("a"), Encoding::Plain);
    for _ in 0..200 {
        hub.publish("a", &mut Unchanged::new(Kind::Text, &[b'x'; 1000]));
    }
    pass(&mut hub);
    assert_eq!(events(&mut hub), []);
    assert_eq!(pipe.texts().len(), 200);
}
