//! An outbox by itself: its contents, their order, and which of them are discarded.

use bytes::Bytes;

use super::*;
use crate::hub::{Source, shares::Body};

/// Only the last of the pongs that are not yet begun waits, and a begun one is left alone.
#[test]
fn only_the_last_pong_waits() {
    let mut outbox = Outbox::default();
    outbox.push(&[b"aa"]);
    outbox.replace(Replaceable::Pong, b"p1");
    outbox.replace(Replaceable::Ping, b"i");
    outbox.push(&[b"bb"]);
    outbox.replace(Replaceable::Pong, b"pong2");
    outbox.replace(Replaceable::Ping, b"ii");
    let none = &mut Shares::default();
    assert_eq!(unsent(&outbox, none), "aapong2iibb");
    outbox.advance(3, none);
    outbox.replace(Replaceable::Pong, b"p3");
    assert_eq!(unsent(&outbox, none), "ong2iibbp3");
    outbox.advance(6, none);
    outbox.replace(Replaceable::Pong, b"p4");
    assert_eq!(unsent(&outbox, none), "bbp4");
}

/// All waiting bytes, in order.
fn unsent(outbox: &Outbox, shares: &Shares) -> String {
    let mut slices = [IoSlice::new(&[]); OUTBOX_SLICES];
    let mut window = LongWindow::default();
    let count = outbox.gather(shares, &mut window, &mut slices);
    let bytes = slices[..count].iter().flat_map(|slice| slice.iter().copied());
    String::from_utf8(bytes.collect()).unwrap()
}

fn shared(shares: &mut Shares, text: &'static str) -> u32 {
    let source = Source::Frame(0, text.len() as u64);
    if let Some(share) = shares.find(&source) {
        shares.join(share, 0);
        return share;
    }
    shares.insert(source, Body::Bytes(Bytes::from_static(text.as_bytes())), 0).0
}

/// Shared bytes stand among a client's own and are let go by their last reader.
#[test]
fn shared_bytes_are_freed_by_their_last_reader() {
    let mut shares = Shares::default();
    let mut all = [Outbox::default(), Outbox::default()];
    for outbox in &mut all {
        outbox.push(&[b"a"]);
        outbox.replace(Replaceable::Pong, b"p");
        let share = shared(&mut shares, "shared");
        outbox.push_share(b"\x01\x06", share, 6);
        outbox.replace(Replaceable::Pong, b"pong");
        outbox.push(&[b"z"]);
    }
    assert_eq!(shares.check().0, 2);
    let [mut first, mut second] = all;
    assert_eq!(unsent(&first, &shares), "apong\x01\x06sharedz");
    assert_eq!(first.advance(9, &mut shares), Advanced::default());
    assert_eq!(unsent(&first, &shares), "aredz");
    first.replace(Replaceable::Pong, b"q");
    assert_eq!(first.advance(5, &mut shares).freed, 0, "the other one has not read it");
    assert_eq!(unsent(&first, &shares), "q");
    assert!(second.advance(14, &mut shares).freed > 6);
    assert_eq!(shares.check(), (0, 0, 0));
}

/// All answers but the end of the begun frame can be thrown away: a client that leaves answers
/// unread is closed after the answer that it has begun.
#[test]
fn all_but_the_begun_frame_can_be_thrown_away() {
    let frame = |byte: u8, length: u8| [&[0x81, length][..], &vec![byte; length.into()]].concat();
    let frames = [frame(b'a', 5), frame(b'b', 7), frame(b'c', 3)].concat();
    for taken in 0..frames.len() {
        let mut shares = Shares::default();
        let mut outbox = Outbox::default();
        outbox.push(&[&frames]);
        let share = shared(&mut shares, "shared");
        outbox.push_share(b"\x01\x06", share, 6);
        outbox.advance(taken, &mut shares);
        let end = [0, 7, 16, 21].into_iter().find(|&end| end >= taken).unwrap();
        assert!(outbox.cut_short(&mut shares) > 6);
        assert_eq!(unsent(&outbox, &shares).as_bytes(), &frames[taken..end], "{taken}");
        assert_eq!(shares.check(), (0, 0, 0));
    }
}

/// The end of a begun frame that is shared stays, and is known to go soon.
#[test]
fn the_end_of_a_shared_frame_stays() {
    let all = b"aa\x01\x06shared";
    for taken in 3..all.len() {
        let mut shares = Shares::default();
        let mut outbox = Outbox::default();
        outbox.push(&[b"aa"]);
        let share = shared(&mut shares, "shared");
        outbox.push_share(b"\x01\x06", share, 6);
        outbox.push(&[b"behind"]);
        let other = shared(&mut shares, "another one");
        outbox.push_share(b"\x01\x0b", other, 11);
        outbox.advance(taken, &mut shares);
        assert!(outbox.cut_short(&mut shares) > 11, "what it had not begun is left");
        assert_eq!(unsent(&outbox, &shares).as_bytes(), &all[taken..], "{taken}");
        outbox.begin_to_leave(&mut shares);
        outbox.push(&[b"end"]);
        assert!(shares.owed_bytes() > 6);
        let mut reader = Outbox::default();
        let share = shared(&mut shares, "shared");
        reader.push_share(b"", share, 6);
        assert_eq!(shares.owed_bytes(), 0, "somebody stays who reads it");
        reader.leave_shares(&mut shares);
        assert!(shares.owed_bytes() > 6);
        assert!(outbox.advance(all.len() - taken, &mut shares).freed > 6);
        assert_eq!(unsent(&outbox, &shares), "end");
        assert_eq!(shares.check(), (0, 0, 0));
    }
}

/// Regression: three thousand outboxes of 250 KB each took the memory of 500 KB each.
#[test]
fn a_full_buffer_does_not_double() {
    let mut outbox = Outbox::default();
    for number in 0..10_000_usize {
        outbox.push(&[&[b'x'; 17]]);
        outbox.replace(Replaceable::Pong, &vec![b'p'; 2 + number % 125]);
        let own = outbox.own_bytes();
        assert!(outbox.cost() <= own + own / 8 + 512, "{} for {own}", outbox.cost());
    }
}

/// A carry goes before the waiting bytes, and is counted apart.
#[test]
fn a_carry_goes_first_and_is_counted_apart() {
    let mut outbox = Outbox::default();
    outbox.replace(Replaceable::Pong, b"p1");
    outbox.carry(b"rest");
    outbox.replace(Replaceable::Pong, b"p2");
    let none = &mut Shares::default();
    assert_eq!(unsent(&outbox, none), "restp2");
    let advanced = |carried, frames| Advanced { carried, frames, freed: 0 };
    assert_eq!(outbox.advance(3, none), advanced(3, 0));
    assert_eq!(outbox.advance(2, none), advanced(1, 1));
    assert_eq!(outbox.advance(1, none), advanced(0, 0));
    assert!(outbox.is_done());
}
