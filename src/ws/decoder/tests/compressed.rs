//! Compressed messages (RFC 7692 §6): which frames may be marked so, and how long they may be.

use super::*;
use crate::ws::{
    deflate::{Compressor, Inflater, compressed_len_max},
    extension::WindowBits,
};

const DEFLATE: FrameRules =
    FrameRules { message_bytes_max: 70_000, keep_payload: true, compression: true };

fn compressed(kind: Kind, data: &[u8]) -> Event<'static> {
    Event::Message { kind, compressed: true, len: data.len(), data: data.to_vec().into() }
}

fn read(bytes: &[u8], rules: &FrameRules) -> Verdict {
    feed(&mut Decoder::default(), bytes, rules)
}

/// The first frame says that its message is compressed and no other may.
#[test]
fn only_the_first_frame_says_compressed() {
    let (good, no) = (|event| (vec![event], None), (vec![], Some(CloseReason::Protocol)));
    // Compressed data is not text yet.
    let single = frame(0xC1, &[0xff, 0x00]);
    assert_eq!(read(&single, &DEFLATE), good(compressed(Kind::Text, &[0xff, 0x00])));
    assert_eq!(read(&single, &RULES), no);
    let fragments = [frame(0x42, &[0xff]), frame(0x00, &[]), frame(0x80, &[0xfe])].concat();
    assert_eq!(read(&fragments, &DEFLATE), good(compressed(Kind::Binary, &[0xff, 0xfe])));
    let next = [fragments.as_slice(), &frame(0x81, b"plain")].concat();
    assert_eq!(read(&next, &DEFLATE).0[1], text("plain"));
    for wrong in [
        frame(0xA1, b""),
        frame(0xD1, b""),
        frame(0xC8, b""),
        frame(0xC9, b""),
        frame(0xCA, b""),
        frame(0xC0, b""),
    ] {
        assert_eq!(read(&wrong, &DEFLATE), no, "{wrong:02x?}");
    }
    for begun in [0x41, 0x01] {
        let wrong = [frame(begun, b"a"), frame(0xC0, b"b")].concat();
        assert_eq!(read(&wrong, &DEFLATE), no, "{begun:02x}");
    }
}

/// A compressed message may be a little longer than a plain one and no more.
#[test]
fn a_compressed_message_may_be_a_little_longer() {
    let rules = FrameRules { message_bytes_max: 1000, ..DEFLATE };
    let most = compressed_len_max(1000);
    assert!((1000..1300).contains(&most));
    assert_eq!(read(&frame(0xC2, &vec![1; most]), &rules).1, None);
    for too_long in [
        frame(0xC2, &vec![1; most + 1]),
        [frame(0x42, &vec![1; most]), frame(0x80, &[1])].concat(),
        frame(0x82, &[1; 1001]),
    ] {
        assert_eq!(read(&too_long, &rules).1, Some(CloseReason::TooBig));
    }
    let mut decoder = Decoder::default();
    for _ in 0..most {
        let piece = if decoder.is_idle() { frame(0x42, &[1]) } else { frame(0x00, &[1]) };
        assert_eq!(feed(&mut decoder, &piece, &rules).1, None);
        assert!(decoder.held_bytes() <= size_of::<Partial>() + most);
    }
}

/// Messages that are cut anywhere are inflated to what they were.
#[test]
fn messages_cut_anywhere_inflate_whole() {
    let mut random = fastrand::Rng::with_seed(11);
    let (mut compressor, mut inflater) = (Compressor::new(WindowBits::MAX), Inflater::default());
    for round in 0..300 {
        let payload = "wörter ".repeat(random.usize(10..400));
        let mut data = Vec::new();
        assert!(compressor.message(payload.as_bytes(), &mut data));
        let (mut wire, mut rest, mut first) = (Vec::new(), data.as_slice(), 0x41);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(0..=rest.len()));
            let last = if after.is_empty() { 0x80 } else { 0 };
            wire.extend(frame(first | last, piece));
            if random.bool() && !after.is_empty() {
                wire.extend(frame(0x89, b"ping"));
            }
            (rest, first) = (after, 0x00);
        }
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        let (mut left, rules) = (wire.as_slice(), DEFLATE);
        while !left.is_empty() {
            let (piece, after) = left.split_at(random.usize(1..=left.len()));
            let (events, end) = feed(&mut decoder, piece, &rules);
            assert_eq!(end, None, "round {round}");
            messages.extend(events.into_iter().filter(|event| !matches!(event, Event::Ping(_))));
            left = after;
        }
        let [Event::Message { kind, compressed: true, data, .. }] = messages.as_slice() else {
            panic!("round {round}: {messages:?}");
        };
        assert_eq!(inflater.message(*kind, data, 70_000), Ok(payload.as_bytes()));
    }
}
