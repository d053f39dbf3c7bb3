//! The RFC's rules about client frames, each by name, and the decoder's promises about memory. Cuts
//! at random places and a second opinion are in `tests/ws_oracle.rs`.

use super::*;
use crate::ws::close;

mod compressed;
mod long;

const RULES: FrameRules =
    FrameRules { message_bytes_max: 70_000, keep_payload: true, compression: false };
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

type Verdict = (Vec<Event<'static>>, Option<CloseReason>);

/// A masked frame; `first` is its first byte on the wire.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Feeds one read to `decoder`.
fn feed(decoder: &mut Decoder, bytes: &[u8], rules: &FrameRules) -> Verdict {
    let mut input = bytes.to_vec();
    let (mut start, mut events) = (0, Vec::new());
    loop {
        match decoder.next(&mut input[start..], rules) {
            Ok((used, Some(event))) => {
                start += used;
                events.push(event.into_owned());
            }
            Ok((used, None)) => {
                assert_eq!(start + used, bytes.len(), "input was left over");
                return (events, None);
            }
            Err(reason) => return (events, Some(reason)),
        }
    }
}

fn whole(bytes: &[u8]) -> Verdict {
    feed(&mut Decoder::default(), bytes, &RULES)
}

fn text(text: &str) -> Event<'static> {
    let data = text.as_bytes().to_vec();
    Event::Message { kind: Kind::Text, compressed: false, len: data.len(), data: data.into() }
}

fn binary(data: Vec<u8>) -> Event<'static> {
    Event::Message { kind: Kind::Binary, compressed: false, len: data.len(), data: data.into() }
}

fn closed(code: Option<u16>, text: &str) -> Event<'static> {
    Event::Close(CloseFrame { code, text: text.to_owned() })
}

/// Fails with `reason` at the last byte of `bytes` and at none before it.
#[track_caller]
fn assert_fails_at_the_last_byte(bytes: &[u8], reason: CloseReason) {
    let (before, last) = bytes.split_at(bytes.len() - 1);
    assert_eq!(whole(before).1, None, "refused too early: {bytes:02x?}");
    assert_eq!(whole(bytes).1, Some(reason), "{bytes:02x?}");
    let mut decoder = Decoder::default();
    assert_eq!(feed(&mut decoder, before, &RULES).1, None);
    assert_eq!(feed(&mut decoder, last, &RULES).1, Some(reason), "cut: {bytes:02x?}");
    assert!(decoder.is_idle(), "memory is held after a failure");
}

#[test]
fn the_rfcs_masked_example_is_read() {
    let bytes = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(whole(bytes), (vec![text("Hello")], None));
}

#[test]
fn every_length_at_a_border_of_its_encoding_is_read() {
    for len in [0, 1, 124, 125, 126, 127, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
        assert_eq!(whole(&frame(0x82, &payload)), (vec![binary(payload)], None), "{len}");
    }
}

#[test]
fn an_unmasked_frame_breaks_the_protocol() {
    assert_fails_at_the_last_byte(b"\x81\x05", CloseReason::Protocol);
    assert_fails_at_the_last_byte(b"\x89\x00", CloseReason::Protocol);
}

#[test]
fn a_reserved_bit_breaks_the_protocol() {
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [0x1, 0x2, 0x8, 0x9, 0xA] {
            assert_fails_at_the_last_byte(&[0x80 | bit | opcode], CloseReason::Protocol);
        }
    }
}

#[test]
fn an_unknown_opcode_breaks_the_protocol() {
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        assert_fails_at_the_last_byte(&[0x80 | opcode], CloseReason::Protocol);
        let in_message = [frame(0x01, b"a"), vec![0x80 | opcode]].concat();
        assert_fails_at_the_last_byte(&in_message, CloseReason::Protocol);
    }
}

#[test]
fn a_fragmented_control_frame_breaks_the_protocol() {
    for opcode in [0x8, 0x9, 0xA] {
        assert_fails_at_the_last_byte(&[opcode], CloseReason::Protocol);
    }
}

/// A control frame of more than 125 bytes breaks the protocol.
#[test]
fn a_control_frame_is_no_longer_than_125_bytes() {
    for first in [0x88, 0x89, 0x8A] {
        for len in [126, 127] {
            assert_fails_at_the_last_byte(&[first, 0x80 | len], CloseReason::Protocol);
        }
    }
    let longest = vec![7; 125];
    assert_eq!(whole(&frame(0x89, &longest)).0, [Event::Ping(longest.into())]);
}

#[test]
fn a_length_with_the_top_bit_breaks_the_protocol() {
    assert_fails_at_the_last_byte(b"\x82\xff\x80\0\0\0\0\0\0\0", CloseReason::Protocol);
    assert_fails_at_the_last_byte(
        b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        CloseReason::Protocol,
    );
}

/// A length in more bytes than it needs breaks the protocol.
#[test]
fn a_length_has_as_few_bytes_as_possible() {
    assert_fails_at_the_last_byte(b"\x82\xfe\0\x7d", CloseReason::Protocol);
    assert_fails_at_the_last_byte(b"\x82\xff\0\0\0\0\0\0\xff\xff", CloseReason::Protocol);
}

#[test]
fn fragments_make_one_message_of_the_first_ones_kind() {
    let bytes = [frame(0x01, b"a"), frame(0x00, b""), frame(0x00, b"bc"), frame(0x80, b"d")];
    assert_eq!(whole(&bytes.concat()), (vec![text("abcd")], None));
    let bytes = [frame(0x02, b""), frame(0x80, b"")];
    assert_eq!(whole(&bytes.concat()), (vec![binary(Vec::new())], None));
}

/// Control frames between fragments are told when they come.
#[test]
fn control_frames_are_told_between_fragments() {
    let bytes = [
        frame(0x01, b"a"),
        frame(0x89, b"p1"),
        frame(0x00, b"b"),
        frame(0x8A, b""),
        frame(0x80, b"c"),
        frame(0x02, b"x"),
        frame(0x88, b"\x03\xe8bye"),
    ];
    let expected = vec![
        Event::Ping(b"p1".into()),
        Event::Pong(b"".into()),
        text("abc"),
        closed(Some(1000), "bye"),
    ];
    assert_eq!(whole(&bytes.concat()), (expected, None));
}

#[test]
fn a_continuation_of_nothing_breaks_the_protocol() {
    assert_fails_at_the_last_byte(&[0x80], CloseReason::Protocol);
    assert_fails_at_the_last_byte(&[0x00], CloseReason::Protocol);
    assert_fails_at_the_last_byte(
        &[&frame(0x81, b"a")[..], &[0x80]].concat(),
        CloseReason::Protocol,
    );
    let ended = [frame(0x01, b"a"), frame(0x80, b"b"), vec![0x00]].concat();
    assert_fails_at_the_last_byte(&ended, CloseReason::Protocol);
}

/// A new message inside a fragmented one breaks the protocol.
#[test]
fn a_new_message_inside_fragments_breaks_the_protocol() {
    for first in [0x81, 0x82, 0x01, 0x02] {
        let bytes = [frame(0x01, b"a"), frame(0x89, b""), vec![first]].concat();
        assert_fails_at_the_last_byte(&bytes, CloseReason::Protocol);
    }
}

/// A Close frame is empty or has a code that may be sent.
#[test]
fn a_close_frame_is_empty_or_has_a_valid_code() {
    assert_eq!(whole(&frame(0x88, b"")), (vec![closed(None, "")], None));
    assert_fails_at_the_last_byte(&frame(0x88, b"\x03"), CloseReason::Protocol);
    let codes = [0, 1, 999, 1000, 1003, 1004, 1005, 1006, 1007, 1014, 1015, 1016, 2999];
    for code in codes.into_iter().chain([3000, 4408, 4999, 5000, u16::MAX]) {
        let bytes = frame(0x88, &[&code.to_be_bytes()[..], "tschüß".as_bytes()].concat());
        if close::is_valid_from_peer(code) {
            assert_eq!(whole(&bytes), (vec![closed(Some(code), "tschüß")], None));
        } else {
            assert_fails_at_the_last_byte(&bytes, CloseReason::Protocol);
        }
    }
}

#[test]
fn a_close_text_that_is_not_utf8_is_told_as_such() {
    assert_fails_at_the_last_byte(&frame(0x88, b"\x03\xe8\xff"), CloseReason::BadUtf8);
    assert_fails_at_the_last_byte(&frame(0x88, b"\x03\xe8caf\xc3"), CloseReason::BadUtf8);
}

/// Text is refused at its first wrong byte in the middle of a frame.
#[test]
fn text_is_refused_at_its_first_wrong_byte() {
    let payload = "κόσμε".bytes().chain(*b"\xf4\x90 and more that never arrives");
    let bytes = frame(0x81, &payload.collect::<Vec<_>>());
    let wrong_at = 6 + "κόσμε".len() + 1;
    assert_fails_at_the_last_byte(&bytes[..=wrong_at], CloseReason::BadUtf8);
}

/// Text that is no UTF-8 is refused across fragments and control frames.
#[test]
fn bad_text_is_refused_across_fragments() {
    let start = [frame(0x01, b"\xce"), frame(0x89, b"\xff"), frame(0x00, b"")].concat();
    let good = [&start[..], &frame(0x80, b"\xba")].concat();
    assert_eq!(whole(&good).0, [Event::Ping(b"\xff".into()), text("κ")]);
    let bad = [&start[..], &frame(0x80, b"(")].concat();
    assert_fails_at_the_last_byte(&bad, CloseReason::BadUtf8);
}

/// Text that ends inside a character is refused at its end.
#[test]
fn text_ending_inside_a_character_is_refused() {
    assert_fails_at_the_last_byte(&frame(0x81, b"caf\xc3"), CloseReason::BadUtf8);
    let bytes = [frame(0x01, b"caf\xc3"), frame(0x80, b"")].concat();
    assert_fails_at_the_last_byte(&bytes, CloseReason::BadUtf8);
}

/// A message too long is refused at its header and the longest allowed passes.
#[test]
fn a_message_too_long_is_refused_at_its_header() {
    let longest = RULES.message_bytes_max;
    assert_eq!(whole(&frame(0x82, &vec![1; longest])).1, None);
    let header_only = &frame(0x82, &vec![1; longest + 1])[..14];
    assert_fails_at_the_last_byte(header_only, CloseReason::TooBig);
}

#[test]
fn fragments_count_together_and_control_frames_do_not() {
    let limited = FrameRules { message_bytes_max: 10, keep_payload: true, compression: false };
    let start = [frame(0x02, &[1; 6]), frame(0x89, &[2; 100])].concat();
    let good = [&start[..], &frame(0x80, &[1; 4])].concat();
    let events = feed(&mut Decoder::default(), &good, &limited);
    assert_eq!(events, (vec![Event::Ping(vec![2; 100].into()), binary(vec![1; 10])], None));
    let bad = [&start[..], &frame(0x00, &[1; 5])[..6]].concat();
    assert_eq!(feed(&mut Decoder::default(), &bad, &limited).1, Some(CloseReason::TooBig));
}

#[test]
fn an_idle_decoder_is_one_pointer_and_holds_nothing() {
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
    let mut decoder = Decoder::default();
    assert!(decoder.is_idle() && decoder.held_bytes() == 0);
    let bytes = [frame(0x01, b"ab"), frame(0x89, b"cd"), frame(0x80, b"ef")].concat();
    for (index, byte) in bytes.iter().enumerate() {
        let _ = feed(&mut decoder, &[*byte], &RULES);
        let done = index + 1 == bytes.len();
        assert_eq!(decoder.is_idle(), done, "byte {index}");
        assert_eq!(decoder.held_bytes() == 0, done, "byte {index}");
    }
}

#[test]
fn a_control_frame_cut_in_two_leaves_nothing_behind() {
    let mut decoder = Decoder::default();
    let bytes = frame(0x89, b"ping");
    assert_eq!(feed(&mut decoder, &bytes[..8], &RULES), (vec![], None));
    assert!(!decoder.is_idle());
    assert_eq!(feed(&mut decoder, &bytes[8..], &RULES).0, [Event::Ping(b"ping".into())]);
    assert!(decoder.is_idle());
}

#[test]
fn memory_follows_what_arrived_not_what_was_announced() {
    let rules =
        FrameRules { message_bytes_max: usize::MAX, keep_payload: true, compression: false };
    let mut decoder = Decoder::default();
    let bytes = [b"\x82\xff\0\0\0\0\x40\0\0\0".as_slice(), &KEY, &[1; 1000]].concat();
    assert_eq!(feed(&mut decoder, &bytes, &rules), (vec![], None));
    assert!(decoder.held_bytes() < 3000, "{}", decoder.held_bytes());
}

#[test]
fn memory_never_exceeds_the_longest_message_allowed() {
    let mut decoder = Decoder::default();
    let bytes = frame(0x82, &vec![1; RULES.message_bytes_max]);
    for piece in bytes.chunks(1500) {
        let _ = feed(&mut decoder, piece, &RULES);
        assert!(decoder.held_bytes() <= RULES.message_bytes_max + size_of::<Partial>());
    }
    assert!(decoder.is_idle());
}

/// A message that lies whole in the input is lent not copied.
#[test]
fn a_message_whole_in_the_input_is_not_copied() {
    let mut decoder = Decoder::default();
    let mut bytes = frame(0x81, b"whole");
    let Ok((_, Some(Event::Message { data, .. }))) = decoder.next(&mut bytes, &RULES) else {
        panic!("no message");
    };
    assert!(matches!(data, Cow::Borrowed(b"whole")));

    // The same if only the payload is missing.
    let mut bytes = frame(0x81, b"whole");
    let (head, payload) = bytes.split_at_mut(6);
    assert_eq!(decoder.next(head, &RULES), Ok((6, None)));
    let Ok((5, Some(Event::Message { data, .. }))) = decoder.next(payload, &RULES) else {
        panic!("no message");
    };
    assert!(matches!(data, Cow::Borrowed(b"whole")));
    assert!(decoder.is_idle());
}

/// Payload that is not wanted is checked and counted, and not stored.
#[test]
fn unwanted_payload_is_checked_and_not_stored() {
    let rules = FrameRules { message_bytes_max: 5000, keep_payload: false, compression: false };
    let mut decoder = Decoder::default();
    let bytes = [frame(0x01, &[b'a'; 2000]), frame(0x89, b"p"), frame(0x80, &[b'b'; 3000])];
    let nothing =
        |kind, len| Event::Message { kind, compressed: false, len, data: Cow::Borrowed(&[]) };
    let mut events = Vec::new();
    for piece in bytes.concat().chunks(700) {
        events.extend(feed(&mut decoder, piece, &rules).0);
        assert!(decoder.held_bytes() <= size_of::<Partial>() + 8);
    }
    assert_eq!(events, [Event::Ping(b"p".into()), nothing(Kind::Text, 5000)]);

    let whole =
        |first, payload: &[u8]| feed(&mut Decoder::default(), &frame(first, payload), &rules);
    assert_eq!(whole(0x82, b"abc"), (vec![nothing(Kind::Binary, 3)], None));
    assert_eq!(whole(0x81, b"abc\xff"), (vec![], Some(CloseReason::BadUtf8)));
    assert_eq!(whole(0x82, &[0; 5001]), (vec![], Some(CloseReason::TooBig)));
}

/// Frames cut at every byte and every two are read the same.
#[test]
fn frames_cut_anywhere_are_read_the_same() {
    let bytes = [
        frame(0x81, "κόσμε".as_bytes()),
        frame(0x02, &[9; 130]),
        frame(0x89, b"ping"),
        frame(0x80, &[8; 3]),
        frame(0x88, b"\x03\xe9away"),
    ]
    .concat();
    let expected = whole(&bytes);
    assert_eq!(expected.0.len(), 4);
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut events = feed(&mut decoder, &bytes[..first], &RULES).0;
            events.extend(feed(&mut decoder, &bytes[first..second], &RULES).0);
            events.extend(feed(&mut decoder, &bytes[second..], &RULES).0);
            assert_eq!(events, expected.0, "cut at {first} and {second}");
            assert!(decoder.is_idle());
        }
    }
}
